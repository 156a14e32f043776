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
                if (RestOfPause() is var pause && pause > TimeSpan.Zero)
                {
                    await Task.Delay(pause, _time, _stopping.Token);
                }

                lock (_lock)
                {
                    // A boot may have failed since, and begun a pause.
                    if (RestOfPause() > TimeSpan.Zero)
                    {
                        Wake();
                        continue;
                    }

                    // A client may have stopped to wait, so that its microVM is one too many.
                    while (_warm.Count > _size + WaitingCount)
                    {
                        var surplus = _warm.First!.Value;
                        _warm.RemoveFirst();
                        End(surplus);
                    }

                    while (_boots.Count < _maxBoots && !_stopping.IsCancellationRequested && MustStartOne())
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

    /// <summary>Ends one warm microVM, so that a microVM that a client waits for finds room on the host.</summary>
    /// <returns>Its end; null when none is warm that no claim waits for.</returns>
    internal Task? GiveWay()
    {
        lock (_lock)
        {
            if (_warm.First is not { } oldest || _waiting.Count > 0)
            {
                return null;
            }

            _warm.RemoveFirst();
            StopMaintenance(oldest.Value);
            return End(oldest.Value);
        }
    }

    /// <summary>Looks again at what the pool needs.</summary>
    internal void Wake() => _wake.Writer.TryWrite(true);

    // Under the lock. For waiting claims at once: an expected microVM may never come.
    private bool MustStartOne()
    {
        var coming = _warm.Count + _boots.Count;
        return coming < _waiting.Count || (coming + _expected < _size + _waiting.Count && _hasRoom());
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
        catch (NoRoomException e)
        {
            // No claim waits for it. It starts when the host has room for this size, which may be that of a newer template.
            MicroVmSize = e.Size;
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

    private TimeSpan RestOfPause() => _time.GetElapsedTime(_time.GetTimestamp(), Interlocked.Read(ref _pausedUntil));

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
