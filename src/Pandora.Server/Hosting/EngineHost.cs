using Pandora.Engine.Node;
using Pandora.Engine.Projects;
using Pandora.Engine;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>
/// Opens the engine before the web server listens, and lets it recover while requests are answered with <c>recovering</c>. Stops the engine
/// before the web server waits for its requests: commands in guests would keep the web server waiting.
/// </summary>
public sealed partial class EngineHost(
    EngineOptions options,
    IVmm vmm,
    EngineMetrics metrics,
    StopSignals signals,
    IHostApplicationLifetime lifetime,
    FindProject projects,
    TimeProvider time,
    ILoggerFactory loggers) : IHostedLifecycleService, IAsyncDisposable
{
    // Commands get ten seconds, and ending the microVMs takes less than one. After a longer time a service manager kills the server.
    private static readonly TimeSpan StopLimit = TimeSpan.FromSeconds(25);
    private readonly ILogger _logger = loggers.CreateLogger<EngineHost>();
    private PandoraEngine? _engine;

    /// <summary>The engine, once it is open.</summary>
    public PandoraEngine Engine => _engine ?? throw new InvalidOperationException("the engine has not started");

    /// <summary>Whether the engine could not recover, or could not stop in time.</summary>
    public bool HasFailed { get; private set; }

    /// <inheritdoc/>
    public async Task StartingAsync(CancellationToken cancellationToken) =>
        _engine = await PandoraEngine.OpenAsync(options, vmm, metrics, time, loggers, cancellationToken, projects: projects);

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
        // A server that failed to recover must not end running microVMs.
        var detach = HasFailed || signals.ShouldDetach(options.OnStop);
        var (sandboxes, warm) = (Engine.Sandboxes.Count, Engine.Status.WarmCount);
        var start = time.GetTimestamp();
        if (detach)
        {
            LogDetaching(sandboxes, warm);
        }
        else
        {
            LogStopping(sandboxes, warm);
        }

        try
        {
            await Engine.StopAsync(detach).WaitAsync(StopLimit, time, CancellationToken.None);
        }
        catch (TimeoutException)
        {
            LogStuck(StopLimit.TotalSeconds);
            HasFailed = true;
            _engine = null;
            return;
        }

        if (detach)
        {
            LogDetached(time.GetElapsedTime(start).TotalSeconds);
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

    /// <summary>Stops the engine if it is still open, as after a failure to listen.</summary>
    public async ValueTask DisposeAsync()
    {
        if (_engine is not null)
        {
            // The microVMs of an earlier server that this one has not adopted yet keep running.
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
            // The server is stopping.
        }
        catch (Exception e)
        {
            LogRecoveryFailed(e);
            HasFailed = true;
            lifetime.StopApplication();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "Stopping: ending {Sandboxes} sandboxes and {Warm} warm microVMs")]
    private partial void LogStopping(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "All microVMs were cleaned up in {Seconds:0.0} s")]
    private partial void LogStopped(double seconds);

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "Stopping: {Sandboxes} sandboxes and {Warm} warm microVMs keep running, and the next start adopts them")]
    private partial void LogDetaching(int sandboxes, int warm);

    [LoggerMessage(Level = LogLevel.Information, Message = "Detached from all microVMs in {Seconds:0.0} s")]
    private partial void LogDetached(double seconds);

    [LoggerMessage(
        Level = LogLevel.Critical,
        Message = "The engine did not stop within {Seconds:0} s: the server ends anyway, and the next start adopts or cleans up what "
            + "remains")]
    private partial void LogStuck(double seconds);

    [LoggerMessage(Level = LogLevel.Critical, Message = "The microVMs of the previous server could not be recovered; the server stops")]
    private partial void LogRecoveryFailed(Exception exception);
}
