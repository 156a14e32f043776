using Pandora.Engine.MicroVms;
using Pandora.Vmm;

namespace Pandora.Engine.Pools;

/// <summary>What is done to microVMs while they wait.</summary>
public sealed partial class WarmPool
{
    private static readonly TimeSpan MaintenanceStep = TimeSpan.FromSeconds(1),
        MaintenanceInterval = TimeSpan.FromSeconds(30),
        ClockStep = TimeSpan.FromMilliseconds(10);
    private MicroVm? _maintained;
    private CancellationTokenSource? _tendedLeaves;

    private async Task MaintainAsync()
    {
        using var timer = new PeriodicTimer(MaintenanceStep, _time);
        try
        {
            var (tended, seen) = (_time.GetTimestamp(), _time.GetUtcNow() - DateTimeOffset.UnixEpoch - Elapsed());
            while (await timer.WaitForNextTickAsync(_stopping.Token))
            {
                // The host's clock against its timer: what is left when one is taken from the other changes only when somebody sets the
                // clock.
                var offset = _time.GetUtcNow() - DateTimeOffset.UnixEpoch - Elapsed();
                if ((offset - seen).Duration() < ClockStep && _time.GetElapsedTime(tended) < MaintenanceInterval)
                {
                    continue;
                }

                (tended, seen) = (_time.GetTimestamp(), offset);
                MicroVm[] warm;
                lock (_lock)
                {
                    warm = [.. _warm];
                }

                foreach (var microVm in warm)
                {
                    await MaintainAsync(microVm);
                }
            }
        }
        catch (OperationCanceledException)
        {
            // Closing.
        }
    }

    private async Task MaintainAsync(MicroVm microVm)
    {
        using var leaves = CancellationTokenSource.CreateLinkedTokenSource(_stopping.Token);
        lock (_lock)
        {
            if (!_warm.Contains(microVm))
            {
                return;
            }

            (_maintained, _tendedLeaves) = (microVm, leaves);
        }

        try
        {
            await _maintain!(microVm, leaves.Token);
        }
        catch (OperationCanceledException) when (!_stopping.IsCancellationRequested)
        {
            // It was claimed.
        }
        catch (VmmException e)
        {
            lock (_lock)
            {
                if (_warm.Remove(microVm))
                {
                    LogDiedWarm(microVm.Id, e.Message);
                    End(microVm);
                }
            }

            Wake();
        }
        finally
        {
            lock (_lock)
            {
                (_maintained, _tendedLeaves) = (null, null);
            }
        }
    }

    private TimeSpan Elapsed() => _time.GetElapsedTime(0);

    // Under the lock. Nobody sets the clock of one that is in use.
    private void Release(MicroVm microVm)
    {
        if (_maintained == microVm)
        {
            _ = _tendedLeaves!.CancelAsync();
        }
    }
}
