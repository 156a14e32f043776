using Pandora.Engine;

namespace Pandora.Server.Hosting;

/// <summary>Ends the engine when the host stops: requests are cut first, then everything is undone.</summary>
public sealed partial class EngineHost(PandoraEngine engine, ILogger<EngineHost> logger) : IHostedLifecycleService
{
    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Before the web server waits for its requests to end: commands in guests would keep it waiting.</summary>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        LogStopping(engine.Sandboxes.Count, engine.WarmCount);
        var start = TimeProvider.System.GetTimestamp();
        await engine.DisposeAsync();
        LogStopped(TimeProvider.System.GetElapsedTime(start).TotalSeconds);
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    [LoggerMessage(Level = LogLevel.Information, Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs are ended")]
    private partial void LogStopping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Everything was undone in {Seconds:0.0} s")]
    private partial void LogStopped(double seconds);
}
