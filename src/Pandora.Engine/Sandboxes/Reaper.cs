using Microsoft.Extensions.Hosting;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Sandboxes;

/// <summary>Looks every second for sandboxes that nobody uses.</summary>
public sealed partial class Reaper(SandboxRegistry sandboxes, TimeProvider time, ILogger<Reaper> logger) : BackgroundService
{
    /// <inheritdoc/>
    protected override async Task ExecuteAsync(CancellationToken stoppingToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1), time);
        while (await timer.WaitForNextTickAsync(stoppingToken))
        {
            try
            {
                await sandboxes.ReapAsync();
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
