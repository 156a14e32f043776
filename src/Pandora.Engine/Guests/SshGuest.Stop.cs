using Microsoft.Extensions.Logging;
using Renci.SshNet;

namespace Pandora.Engine.Guests;

/// <content>Stops commands: at their timeout, or when the caller cancels.</content>
internal sealed partial class SshGuest
{
    private static readonly TimeSpan OpenLimit = TimeSpan.FromSeconds(2);

    private async Task<GuestResult> StopAsync(SshClient client, SshExec exec, CancellationToken cancellationToken)
    {
        if (exec.Result.IsCompletedSuccessfully)
        {
            // The command ended by itself at the same moment.
            return await exec.Result;
        }

        var stopped = exec.TryRefuse() ? CommandStop.NotStarted : await _killer.KillAsync(exec);
        exec.Abandon();
        _ = CloseIfBlockedAsync(client, exec);
        var partial = exec.Partial(stopped);
        return cancellationToken.IsCancellationRequested ? throw new CommandStoppedException(stopped, cancellationToken) : partial;
    }

    // A command that is given up while its channel is being opened holds the gate until the guest answers. If the guest answers over
    // another connection and not over this one, as after a network failure, this connection is broken: its other commands get no answer
    // either. Then it is closed.
    private async Task CloseIfBlockedAsync(SshClient client, SshExec exec)
    {
        while (true)
        {
            await exec.Opened.WaitAsync(OpenLimit, _time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            if (exec.Opened.IsCompleted || _disposed)
            {
                return;
            }

            if ((await _killer.KillAsync(exec)).HasAnswered && !exec.Opened.IsCompleted)
            {
                LogBlocked(_address);
                await SshExec.OnThread(client.Disconnect).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                return;
            }
        }
    }

    private async Task<SshClient> ConnectAnotherAsync(CancellationToken cancellationToken)
    {
        var client = NewClient();
        var opening = client.ConnectAsync(cancellationToken);
        try
        {
            await opening.WaitAsync(cancellationToken);
            return client;
        }
        catch
        {
            _ = CloseAsync(client, opening);
            throw;
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The guest at {Address} answers over another SSH connection and not over this one, which is closed")]
    private partial void LogBlocked(string address);
}
