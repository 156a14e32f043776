namespace Pandora.Client;

/// <summary>
/// Restarts a sandbox's idle time, four times in each idle timeout, until it is stopped or the sandbox has ended. It holds the sandbox
/// weakly: one that the program has lost ends by its idle timeout.
/// </summary>
internal sealed class SandboxKeepAlive : IDisposable
{
    // A timer accepts at most 49 days.
    private static readonly TimeSpan MaxInterval = TimeSpan.FromDays(1);
    private readonly CancellationTokenSource _stopping = new();
    private readonly PeriodicTimer _timer;

    private SandboxKeepAlive(TimeSpan interval, TimeProvider time) => _timer = new PeriodicTimer(interval, time);

    /// <summary>Starts it.</summary>
    public static SandboxKeepAlive Start(Sandbox sandbox, TimeProvider time, TimeSpan idleTimeout)
    {
        var weak = new WeakReference<Sandbox>(sandbox);
        var interval = idleTimeout / 4 < MaxInterval ? idleTimeout / 4 : MaxInterval;
        interval = interval > TimeSpan.Zero ? interval : MaxInterval;
        var keepAlive = new SandboxKeepAlive(interval, time);
        var (timer, stopping) = (keepAlive._timer, keepAlive._stopping.Token);
        // Without the caller's context: nothing of it may live as long as the sandbox.
        using (ExecutionContext.SuppressFlow())
        {
            _ = Task.Run(() => RunAsync(weak, timer, interval, time, stopping), CancellationToken.None);
        }

        return keepAlive;
    }

    /// <summary>Stops it.</summary>
    public void Dispose()
    {
        _stopping.Cancel();
        _stopping.Dispose();
        _timer.Dispose();
    }

    private static async Task RunAsync(
        WeakReference<Sandbox> weak, PeriodicTimer timer, TimeSpan interval, TimeProvider time, CancellationToken stopping)
    {
        // A lost sandbox disposes nothing, so the loop does.
        using var ends = timer;
        try
        {
            bool isAlive;
            do
            {
                await timer.WaitForNextTickAsync(stopping).ConfigureAwait(false);
                isAlive = await TryKeepAliveAsync(weak, interval, time, stopping).ConfigureAwait(false);
            }
            while (isAlive);
        }
        catch (OperationCanceledException)
        {
            // Stopped.
        }
    }

    private static async Task<bool> TryKeepAliveAsync(
        WeakReference<Sandbox> weak, TimeSpan interval, TimeProvider time, CancellationToken stopping)
    {
        if (!weak.TryGetTarget(out var sandbox))
        {
            return false;
        }

        // A call on a dead connection must not stop the ones after it.
        using var limit = new CancellationTokenSource(interval, time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(stopping, limit.Token);
        try
        {
            await sandbox.KeepAliveAsync(either.Token).ConfigureAwait(false);
            return true;
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException or ObjectDisposedException)
        {
            return false;
        }
        catch (Exception) when (!stopping.IsCancellationRequested)
        {
            // The server may be restarting: more tries fit into the idle timeout.
            return true;
        }
    }
}
