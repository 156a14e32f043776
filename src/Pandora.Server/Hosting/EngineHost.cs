using Pandora.Engine;
using Pandora.Engine.Observability;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>Starts the engine before the web server listens, and ends it before the web server waits for its requests: commands in guests would keep it waiting.</summary>
public sealed partial class EngineHost(EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers) : IHostedLifecycleService, IAsyncDisposable
{
    private readonly ILogger _logger = loggers.CreateLogger<EngineHost>();
    private PandoraEngine? _engine;

    /// <summary>The engine, once it stands.</summary>
    public PandoraEngine Engine => _engine ?? throw new InvalidOperationException("the engine has not started");

    /// <inheritdoc/>
    public async Task StartingAsync(CancellationToken cancellationToken) =>
        _engine = await PandoraEngine.StartAsync(options, vmm, metrics, time, loggers, cancellationToken);

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        metrics.Announce(options.PooledTemplates);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        var status = Engine.Status;
        LogStopping(Engine.Sandboxes.Count, status.WarmCount);
        var start = time.GetTimestamp();
        await DisposeAsync();
        LogStopped(time.GetElapsedTime(start).TotalSeconds);
    }

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <summary>Ends the engine if it still stands: a server that could not listen ends here.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_engine is not null)
        {
            await _engine.DisposeAsync();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs are ended")]
    private partial void LogStopping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Everything was undone in {Seconds:0.0} s")]
    private partial void LogStopped(double seconds);
}
