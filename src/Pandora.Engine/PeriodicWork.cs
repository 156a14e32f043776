using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine;

/// <summary>Does something at an interval until it is disposed. What fails is logged, and done again at the next turn.</summary>
internal sealed partial class PeriodicWork : IAsyncDisposable
{
    private readonly CancellationTokenSource _stopping = new();
    private readonly string _name;
    private readonly Func<CancellationToken, Task> _work;
    private readonly ILogger _logger;
    private readonly PeriodicTimer _timer;
    private readonly Task _running;

    /// <summary>Starts it.</summary>
    /// <param name="name">What it is, for the log: a subject.</param>
    /// <param name="interval">Time between two turns; one that takes longer is followed at once by the next.</param>
    /// <param name="work">What is done; its token is cancelled at the end.</param>
    /// <param name="time">For the interval.</param>
    /// <param name="logger">Where failures go.</param>
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

    [LoggerMessage(Level = LogLevel.Error, Message = "{Name} failed and goes on")]
    private partial void LogFailed(string name, Exception exception);
}
