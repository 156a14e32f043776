using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Pools;

// Refills the pool: boots microVMs until enough are warm, with a growing pause after failures.
public sealed partial class WarmPool
{
    private async Task FillAsync()
    {
        try
        {
            while (true)
            {
                await _wake.Reader.ReadAsync(_stopping.Token);
                var pause = _time.GetElapsedTime(_time.GetTimestamp(), Interlocked.Read(ref _pausedUntil));
                if (pause > TimeSpan.Zero)
                {
                    await Task.Delay(pause, _time, _stopping.Token);
                }

                lock (_lock)
                {
                    // A client may have stopped to wait, so that its microVM is one too many.
                    while (_warm.Count > _size + WaitingCount)
                    {
                        var surplus = _warm.First!.Value;
                        _warm.RemoveFirst();
                        End(surplus);
                    }

                    // The second condition boots for waiting clients at once: an expected microVM may never come.
                    while (_boots.Count < _maxBoots && !_stopping.IsCancellationRequested
                        && (_warm.Count + _boots.Count + _expected < _size + WaitingCount || _warm.Count + _boots.Count < WaitingCount))
                    {
                        var done = new TaskCompletionSource();
                        _boots.Add(done.Task);
                        _ = BootOneAsync(done);
                    }
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Closing.
        }
    }

    private async Task BootOneAsync(TaskCompletionSource done)
    {
        await Task.Yield();
        MicroVm? microVm = null;
        try
        {
            microVm = await _boot(_stopping.Token);
            lock (_lock)
            {
                _failures = 0;
                _lastFailure = null;
            }
        }
        catch (OperationCanceledException) when (_stopping.IsCancellationRequested)
        {
            // Closing.
        }
        catch (Exception e)
        {
            _lastFailure = e.Message.Split('\n')[0];
            _metrics.BootFailed(_template, e is BootException boot ? boot.Step : BootStep.Template);
            LogBootFailed(_template, e.Message, Pause().TotalSeconds);
        }

        lock (_lock)
        {
            _boots.Remove(done.Task);
            if (microVm is not null)
            {
                Add(microVm);
            }
        }

        done.SetResult();
        Wake();
    }

    // Boots that fail at the same time count as one failure.
    private TimeSpan Pause()
    {
        lock (_lock)
        {
            var now = _time.GetTimestamp();
            if (now >= _pausedUntil)
            {
                var seconds = Math.Min(LongestPause.TotalSeconds, FirstPause.TotalSeconds * Math.Pow(2, Math.Min(_failures++, 10)));
                _pausedUntil = now + (long)(seconds * _time.TimestampFrequency);
            }

            return _time.GetElapsedTime(now, _pausedUntil);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Template {Template}: {Error}. The next boot is tried after {Seconds:0} s")]
    private partial void LogBootFailed(string template, string error, double seconds);
}
