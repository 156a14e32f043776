using Microsoft.Extensions.Logging;
using Renci.SshNet;

namespace Pandora.Engine.Guests;

/// <content>Commands that are stopped, for their time or because their callers went away.</content>
internal sealed partial class SshGuest
{
    private static readonly TimeSpan OpenLimit = TimeSpan.FromSeconds(2);

    private async Task<GuestResult> StopAsync(SshClient client, SshExec exec, CancellationToken cancellationToken)
    {
        if (exec.Result.IsCompletedSuccessfully)
        {
            // It ended by itself at the same moment.
            return await exec.Result;
        }

        var stopped = exec.TryRefuse() ? CommandStop.NotStarted : await _killer.KillAsync(exec);
        exec.Abandon();
        _ = UnblockAsync(client, exec);
        var partial = exec.Partial(stopped);
        return cancellationToken.IsCancellationRequested ? throw new CommandStoppedException(stopped, cancellationToken) : partial;
    }

    // One that was given up while its channel was being opened holds the gate for as long as the guest does not answer. Where the guest
    // answers by another connection and still not by this, as after its network was away, this is good for nothing, and what runs on it
    // gets no word out either.
    private async Task UnblockAsync(SshClient client, SshExec exec)
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
        Message = "The guest at {Address} answers by another SSH connection and not by this one, which is closed")]
    private partial void LogBlocked(string address);
}
