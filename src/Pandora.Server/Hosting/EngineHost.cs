using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>
/// Opens the engine before the web server listens, lets it recover while requests are told to wait, and ends it before the web server waits
/// for its requests: commands in guests would keep it waiting.
/// </summary>
public sealed partial class EngineHost(
    EngineOptions options,
    IVmm vmm,
    EngineMetrics metrics,
    StopSignals signals,
    IHostApplicationLifetime lifetime,
    TimeProvider time,
    ILoggerFactory loggers) : IHostedLifecycleService, IAsyncDisposable
{
    // Commands are given ten seconds, and what ends takes under one; a service manager would kill it after longer.
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(25);
    private readonly ILogger _logger = loggers.CreateLogger<EngineHost>();
    private PandoraEngine? _engine;

    /// <summary>The engine, once it stands.</summary>
    public PandoraEngine Engine => _engine ?? throw new InvalidOperationException("the engine has not started");

    /// <summary>Whether it could not recover, or not stop in time.</summary>
    public bool HasFailed { get; private set; }

    /// <inheritdoc/>
    public async Task StartingAsync(CancellationToken cancellationToken) =>
        _engine = await PandoraEngine.OpenAsync(options, vmm, metrics, time, loggers, cancellationToken);

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        metrics.CreateSeries(options.PooledTemplates, Problems.Counted);
        _ = RecoverAsync();
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public async Task StoppingAsync(CancellationToken cancellationToken)
    {
        // A server that failed to take over is no reason to end what lives.
        var keep = HasFailed || signals.Keeps(options.OnStop);
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

        try
        {
            await Engine.StopAsync(keep).WaitAsync(StopLimit, time, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            LogStuck(StopLimit.TotalSeconds);
            HasFailed = true;
            _engine = null;
            return;
        }

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
            await _engine.StopAsync(keep: _engine.HasUnrecovered);
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

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs live on, and the next start takes them over")]
    private partial void LogKeeping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Let go of everything in {Seconds:0.0} s")]
    private partial void LogKept(double seconds);

    [LoggerMessage(
        Level = LogLevel.Critical,
        Message = "Not everything could be let go within {Seconds:0} s: the server ends all the same, and the next start sees to what is "
            + "left")]
    private partial void LogStuck(double seconds);

    [LoggerMessage(Level = LogLevel.Critical, Message = "What the last server left could not be taken over or undone; the server stops")]
    private partial void LogRecoveryFailed(Exception exception);
}
