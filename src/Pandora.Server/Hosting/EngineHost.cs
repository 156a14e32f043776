using Pandora.Engine;
using Pandora.Engine.Observability;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>Opens the engine before the web server listens, lets it recover while requests are told to wait, and ends it before the web server waits for its requests: commands in guests would keep it waiting.</summary>
public sealed partial class EngineHost(EngineOptions options, IVmm vmm, EngineMetrics metrics, StopSignals signals, IHostApplicationLifetime lifetime, TimeProvider time, ILoggerFactory loggers) : IHostedLifecycleService, IAsyncDisposable
{
    private readonly ILogger _logger = loggers.CreateLogger<EngineHost>();
    private PandoraEngine? _engine;

    /// <summary>The engine, once it stands.</summary>
    public PandoraEngine Engine => _engine ?? throw new InvalidOperationException("the engine has not started");

    /// <summary>Whether it could not recover, and the server stops for that.</summary>
    public bool HasFailed { get; private set; }

    /// <inheritdoc/>
    public async Task StartingAsync(CancellationToken cancellationToken) =>
        _engine = await PandoraEngine.OpenAsync(options, vmm, metrics, time, loggers, cancellationToken);

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        metrics.Announce(options.PooledTemplates);
        _ = RecoverAsync();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        var keep = signals.Keeps(options.OnStop);
        var (sandboxes, warm) = (Engine.Sandboxes.Count, Engine.Status.WarmCount);
        var start = time.GetTimestamp();
        if (keep)
        {
            LogKeeping(sandboxes, warm);
        }
        else
        {
            LogStopping(sandboxes, warm);
        }

        await Engine.StopAsync(keep);
        if (keep)
        {
            LogKept(time.GetElapsedTime(start).TotalSeconds);
        }
        else
        {
            LogStopped(time.GetElapsedTime(start).TotalSeconds);
        }
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
            // What an earlier server left, and this one never touched, is left on.
            await _engine.StopAsync(keep: _engine.HasLeftovers);
        }
    }

    private async Task RecoverAsync()
    {
        try
        {
            await Engine.RecoverAsync();
        }
        catch (OperationCanceledException)
        {
            // Stopped meanwhile.
        }
        catch (Exception e)
        {
            LogRecoveryFailed(e);
            HasFailed = true;
            lifetime.StopApplication();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs are ended")]
    private partial void LogStopping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Everything was undone in {Seconds:0.0} s")]
    private partial void LogStopped(double seconds);

    [LoggerMessage(Level = LogLevel.Information, Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs live on, and the next start takes them over")]
    private partial void LogKeeping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Let go of everything in {Seconds:0.0} s")]
    private partial void LogKept(double seconds);

    [LoggerMessage(Level = LogLevel.Critical, Message = "What the last server left could not be taken over or undone; the server stops")]
    private partial void LogRecoveryFailed(Exception exception);
}
