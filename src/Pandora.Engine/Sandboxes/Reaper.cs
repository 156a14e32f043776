using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Sandboxes;

/// <summary>Looks every second for sandboxes that nobody uses, until it is disposed.</summary>
public sealed partial class Reaper : IAsyncDisposable
{
    private readonly SandboxRegistry _sandboxes;
    private readonly ILogger _logger;
    private readonly PeriodicTimer _timer;
    private readonly Task _running;

    /// <summary>Starts it.</summary>
    public Reaper(SandboxRegistry sandboxes, TimeProvider time, ILogger<Reaper> logger)
    {
        _sandboxes = sandboxes;
        _logger = logger;
        _timer = new PeriodicTimer(TimeSpan.FromSeconds(1), time);
        _running = RunAsync();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _timer.Dispose();
        await _running;
    }

    private async Task RunAsync()
    {
        while (await _timer.WaitForNextTickAsync())
        {
            try
            {
                await _sandboxes.ReapAsync();
            }
            catch (Exception e)
            {
                LogFailed(e);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "The reaper failed and goes on")]
    private partial void LogFailed(Exception exception);
}
