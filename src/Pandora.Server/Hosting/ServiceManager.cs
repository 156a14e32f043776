using System.Globalization;
using Microsoft.Extensions.Hosting.Systemd;

namespace Pandora.Server.Hosting;

/// <summary>
/// Reports to systemd that the server is ready, that it stops, and, at half the watchdog's interval, that it is alive: sd_notify(3),
/// sd_watchdog_enabled(3). Does nothing if systemd did not start the server.
/// </summary>
public sealed class ServiceManager(EngineHost host, TimeProvider time) : IHostedLifecycleService, IDisposable
{
    private static readonly ServiceState Watchdog = new("WATCHDOG=1");
    private readonly SystemdNotifier _notifier = new();
    private ITimer? _timer;

    /// <inheritdoc/>
    public Task StartedAsync(CancellationToken cancellationToken)
    {
        _notifier.Notify(ServiceState.Ready);
        if (
            _notifier.IsEnabled
            && long.TryParse(Environment.GetEnvironmentVariable("WATCHDOG_USEC"), CultureInfo.InvariantCulture, out var microseconds)
            && microseconds > 0)
        {
            var half = TimeSpan.FromMicroseconds(microseconds / 2.0);
            _timer = time.CreateTimer(_ => Ping(), null, TimeSpan.Zero, half);
        }

        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StoppingAsync(CancellationToken cancellationToken)
    {
        _notifier.Notify(ServiceState.Stopping);
        return Task.CompletedTask;
    }

    /// <inheritdoc/>
    public Task StartingAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StartAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StopAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public Task StoppedAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public void Dispose() => _timer?.Dispose();

    // Reading the status takes the pools' locks. A server that hangs in one of them sends no ping, and systemd restarts it.
    private void Ping()
    {
        _ = host.Engine.Status;
        _notifier.Notify(Watchdog);
    }
}
