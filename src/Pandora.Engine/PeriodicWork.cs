using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine;

/// <summary>Runs a task at an interval until it is disposed. A failure is logged, and the task runs again at the next interval.</summary>
internal sealed partial class PeriodicWork : IAsyncDisposable
{
    private readonly CancellationTokenSource _stopping = new();
    private readonly string _name;
    private readonly Func<CancellationToken, Task> _work;
    private readonly ILogger _logger;
    private readonly PeriodicTimer _timer;
    private readonly Task _running;

    /// <summary>Starts the work.</summary>
    /// <param name="name">Name of the work in the log, as the subject of a sentence.</param>
    /// <param name="interval">Time between two runs. After a run that takes longer, the next starts at once.</param>
    /// <param name="work">The task. Its token is cancelled when this object is disposed.</param>
    /// <param name="time">The clock of the interval.</param>
    /// <param name="logger">Log of the failures.</param>
    public PeriodicWork(string name, TimeSpan interval, Func<CancellationToken, Task> work, TimeProvider time, ILogger logger)
    {
        _name = name;
        _work = work;
        _logger = logger;
        _timer = new PeriodicTimer(interval, time);
        _running = EngineTracing.Detach(RunAsync);
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        if (!_stopping.IsCancellationRequested)
        {
            await _stopping.CancelAsync();
            _timer.Dispose();
        }

        await _running;
    }

    private async Task RunAsync()
    {
        while (await _timer.WaitForNextTickAsync())
        {
            try
            {
                await _work(_stopping.Token);
            }
            catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
            {
                return;
            }
            catch (Exception e)
            {
                LogFailed(_name, e);
            }
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Name} failed and continues")]
    private partial void LogFailed(string name, Exception exception);
}
