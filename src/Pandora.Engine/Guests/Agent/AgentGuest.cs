using System.Security.Cryptography;
using System.Text;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Engine.Guests.Agent;

/// <summary>A guest whose agent runs its processes.</summary>
internal sealed partial class AgentGuest(AgentConnection connection, ExecWay way, TimeProvider time) : IGuest
{
    private static readonly TimeSpan AnswerLimit = TimeSpan.FromSeconds(10);
    private const int MostListed = 10_000, MostListedBytes = 16 * 1024 * 1024;

    /// <inheritdoc/>
    public ExecWay Way => way;

    /// <inheritdoc/>
    public async Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken)
    {
        var id = RandomNumberGenerator.GetString("abcdefghijklmnopqrstuvwxyz0123456789", 16);
        var request = new StartRequest
        {
            Id = id,
            Tag = spec.Tag,
            Code = spec.Code,
            Arguments = spec.Arguments,
            Environment = [.. spec.Environment.SelectMany(v => new[] { v.Key, v.Value })],
            Directory = spec.Directory,
            User = spec.User,
            HasInput = spec.HasInput,
            IsMerged = spec.IsMerged,
            Columns = (ushort)(spec.Terminal?.Columns ?? 0),
            Rows = (ushort)(spec.Terminal?.Rows ?? 0),
            // The server's clock ends a command; the guest's ends it when there is no server, and other processes.
            TimeLimit = spec.TimeLimit is { } limit
                ? (long)(spec.IsForeground ? limit + AgentProcess.KillLimit : limit).TotalMilliseconds
                : 0,
            Policy = spec switch
            {
                { WaitsWhileRead: true } => OutputPolicy.WaitWhileRead,
                { WaitsForReader: false } => OutputPolicy.Keep,
                { IsReadOnce: true } => OutputPolicy.Wait,
                _ => OutputPolicy.WaitAndKeep,
            },
            IsForeground = spec.IsForeground,
            KeepsAlive = spec.KeepsAlive,
        };
        return await OpenAsync(
            id, ProcessMessage.Start, request.Encode(), spec.IsForeground ? spec.TimeLimit : null, spec.IsReadOnce, cancellationToken);
    }

    /// <inheritdoc/>
    public async Task<IGuestProcess> AttachAsync(string id, ReadFrom from, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            return await OpenAsync(
                id, ProcessMessage.Attach, new AttachRequest(id, from.Offset).Encode(), null, isReadOnce: false, linked.Token);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new PandoraException(
                PandoraError.GuestUnreachable, "the guest's agent does not answer; the process was not touched", innerException: e);
        }
    }

    /// <inheritdoc/>
    public async Task<ProcessInfo> GetAsync(string id, CancellationToken cancellationToken) =>
        (await ListAsync(Encoding.UTF8.GetBytes(id), cancellationToken)).SingleOrDefault()
            ?? throw new PandoraException(PandoraError.GuestUnreachable, "the guest's agent showed no process");

    /// <inheritdoc/>
    public Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken) => ListAsync([], cancellationToken);

    private async Task<IReadOnlyList<ProcessInfo>> ListAsync(byte[] id, CancellationToken cancellationToken)
    {
        using var limit = new CancellationTokenSource(AnswerLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        AgentStream? stream = null;
        try
        {
            stream = await connection.OpenAsync(ProcessMessages.Encode(ProcessMessage.List, id), linked.Token);
            var parser = new MessageParser(ProcessMessages.MaxBody);
            List<ProcessInfo> processes = [];
            for (var bytes = 0L; ;)
            {
                while (parser.TryRead(out var kind, out var body))
                {
                    if (kind == ProcessMessage.Failed && id.Length > 0)
                    {
                        throw AgentProcess.Failure(FailureReport.Decode(body.Span));
                    }

                    if (kind != ProcessMessage.Entry || processes.Count == MostListed)
                    {
                        throw new FormatException($"a list with a message {(int)kind}, or too long");
                    }

                    processes.Add(ToInfo(ProcessEntry.Decode(body.Span)));
                }

                var count = await stream.ReadAsync(parser.Room, linked.Token);
                if (count == 0)
                {
                    return processes;
                }

                parser.Received(count);
                bytes += count;
                if (bytes > MostListedBytes)
                {
                    throw new FormatException("a list that is too long");
                }
            }
        }
        catch (Exception e) when (e is IOException or FormatException
            || (e is OperationCanceledException && !cancellationToken.IsCancellationRequested))
        {
            throw new PandoraException(
                PandoraError.GuestUnreachable,
                $"the guest's agent did not list its processes: {GuestText.Printable(e.Message)}", innerException: e)
            {
                HasGuestWords = true,
            };
        }
        finally
        {
            stream?.Close(mustForget: false);
        }
    }

    /// <inheritdoc/>
    public Task QuiesceAsync(CancellationToken cancellationToken) => connection.QuiesceAsync(cancellationToken);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => connection.DisposeAsync();

    internal static ProcessInfo ToInfo(ProcessEntry entry) => new(
        GuestText.Printable(entry.Id), entry.Pid, entry.Tag is null ? null : GuestText.Bounded(entry.Tag),
        GuestText.Bounded(entry.Command), DateTimeOffset.UnixEpoch.AddTicks(entry.StartedAt / 100), ToFacts(entry.Facts),
        entry.End is { } end ? ToEnd(end) : null);

    internal static ProcessFacts ToFacts(Pandora.Agent.Protocol.Processes.ProcessFacts facts) => new(
        facts.HasInput, facts.HasTerminal, facts.IsForeground, facts.KeepsAlive, facts.OutputBegin, facts.OutputEnd, facts.InputOffset);

    internal static ProcessEnd ToEnd(EndReport report) => new(report.HasReachedLimit ? 137 : report.ExitCode)
    {
        Stopped = report.HasReachedLimit ? AgentProcess.Interpret(report.Kill) : null,
        OomLimit = report.OomLimit > 0 ? report.OomLimit : null,
        HasLeftovers = report.HasLeftovers,
        Offset = report.Offset,
    };

    private async Task<AgentProcess> OpenAsync(
        string id, ProcessMessage kind, byte[] body, TimeSpan? limit, bool isReadOnce, CancellationToken cancellationToken)
    {
        AgentStream stream;
        using (var opening = limit is { } duration ? new CancellationTokenSource(duration, time) : new CancellationTokenSource())
        using (var linked = CancellationTokenSource.CreateLinkedTokenSource(opening.Token, cancellationToken))
        {
            try
            {
                stream = await connection.OpenAsync(ProcessMessages.Encode(kind, body), linked.Token);
            }
            catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
            {
                throw PandoraException.NotSent("the guest's agent did not take the command within its timeout", e);
            }
            catch (IOException e)
            {
                throw PandoraException.NotSent(GuestText.Printable(e.Message), e, hasGuestWords: true);
            }
        }

        var process = new AgentProcess(id, stream, limit, isReadOnce, time);
        try
        {
            await process.WaitForStartAsync(cancellationToken);
            return process;
        }
        catch (OperationCanceledException) when (cancellationToken.IsCancellationRequested)
        {
            if (kind == ProcessMessage.Attach)
            {
                await process.DisposeAsync();
                throw;
            }

            var stopped = await process.KillAsync();
            await process.DisposeAsync();
            throw new CommandStoppedException(stopped, cancellationToken);
        }
        catch
        {
            await process.DisposeAsync();
            throw;
        }
    }
}
