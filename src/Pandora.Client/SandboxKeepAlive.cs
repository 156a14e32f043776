namespace Pandora.Client;

/// <summary>
/// Restarts a sandbox's idle time, three times in each idle timeout, until it is stopped or the sandbox has ended. It holds the sandbox
/// weakly: one that the program has lost ends by its idle timeout.
/// </summary>
internal sealed class SandboxKeepAlive : IDisposable
{
    private readonly CancellationTokenSource _stopping = new();

    /// <summary>Starts it.</summary>
    public static SandboxKeepAlive Start(Sandbox sandbox, TimeProvider time, TimeSpan idleTimeout)
    {
        var keepAlive = new SandboxKeepAlive();
        var weak = new WeakReference<Sandbox>(sandbox);
        // Without the caller's context: nothing of it may live as long as the sandbox.
        var stopping = keepAlive._stopping.Token;
        using (ExecutionContext.SuppressFlow())
        {
            _ = Task.Run(() => RunAsync(weak, idleTimeout / 3, time, stopping), CancellationToken.None);
        }

        return keepAlive;
    }

    /// <summary>Stops it.</summary>
    public void Dispose()
    {
        _stopping.Cancel();
        _stopping.Dispose();
    }

    private static async Task RunAsync(WeakReference<Sandbox> weak, TimeSpan interval, TimeProvider time, CancellationToken stopping)
    {
        using var timer = new PeriodicTimer(interval, time);
        try
        {
            while (await timer.WaitForNextTickAsync(stopping) && await TryKeepAliveAsync(weak, stopping))
            {
            }
        }
        catch (OperationCanceledException)
        {
            // Stopped.
        }
    }

    private static async Task<bool> TryKeepAliveAsync(WeakReference<Sandbox> weak, CancellationToken stopping)
    {
        if (!weak.TryGetTarget(out var sandbox))
        {
            return false;
        }

        try
        {
            await sandbox.KeepAliveAsync(stopping);
            return true;
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException or ObjectDisposedException)
        {
            return false;
        }
        catch (PandoraClientException)
        {
            // The server may be restarting: two more tries fit into the idle timeout.
            return true;
        }
    }
}
