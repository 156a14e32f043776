using Pandora.Agent.Protocol.Files;
using Pandora.Engine.Guests.Files;

namespace Pandora.Engine.Guests.Agent;

/// <content>Requests for files.</content>
internal sealed partial class AgentGuest
{
    private static readonly byte[] Root = "/"u8.ToArray();

    /// <inheritdoc/>
    public async Task<IGuestFiles> OpenFilesAsync(FileSpec spec, CancellationToken cancellationToken)
    {
        if (way == ExecWay.Ssh)
        {
            throw AgentFileRequest.Unsupported("this sandbox's commands run over SSH, and files need the agent's device");
        }

        return new AgentFileRequest(spec, await OpenFilesAsync(AgentFileRequest.RequestOf(spec), cancellationToken), IsAliveAsync, time);
    }

    private async Task<AgentStream> OpenFilesAsync(FileRequest request, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            return await connection.OpenAsync(FileMessages.Encode(FileMessage.Request, request.Encode()), linked.Token);
        }
        catch (Exception e) when (e is IOException || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new PandoraException(
                PandoraError.GuestUnreachable,
                $"the guest's agent cannot be asked ({GuestText.Printable(e.Message)}); nothing was done", innerException: e)
            {
                HasGuestWords = true,
            };
        }
    }

    // Whether the agent answers another request: then one that is silent is being worked on. Any answer will do, also a refusal.
    private async Task<bool> IsAliveAsync(CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        AgentStream? stream = null;
        try
        {
            stream = await OpenFilesAsync(new FileRequest(FileOperation.Show, Root), linked.Token);
            return await stream.ReadAsync(new byte[1], linked.Token) > 0;
        }
        catch (Exception e) when (e is PandoraException or IOException
            || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            return false;
        }
        finally
        {
            stream?.Close(mustForget: false);
        }
    }
}
