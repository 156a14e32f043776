using Pandora.Engine.MicroVms;
using Pandora.Vmm;

namespace Pandora.Engine.Pools;

/// <summary>Maintains microVMs while they are warm.</summary>
public sealed partial class WarmPool
{
    private static readonly TimeSpan MaintenanceStep = TimeSpan.FromSeconds(1),
        MaintenanceInterval = TimeSpan.FromSeconds(30),
        ClockStep = TimeSpan.FromMilliseconds(10);
    private MicroVm? _maintained;
    private CancellationTokenSource? _maintainedLeaves;

    private async Task MaintainAsync()
    {
        using var timer = new PeriodicTimer(MaintenanceStep, _time);
        try
        {
            var (maintainedAt, lastOffset) = (_time.GetTimestamp(), ClockOffset());
            while (await timer.WaitForNextTickAsync(_stopping.Token))
            {
                var offset = ClockOffset();
                var isClockSet = (offset - lastOffset).Duration() >= ClockStep;
                if (!isClockSet && _time.GetElapsedTime(maintainedAt) < MaintenanceInterval)
                {
                    continue;
                }

                (maintainedAt, lastOffset) = (_time.GetTimestamp(), offset);
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

            (_maintained, _maintainedLeaves) = (microVm, leaves);
        }

        try
        {
            await _maintain!(microVm, leaves.Token);
        }
        catch (OperationCanceledException) when (!_stopping.IsCancellationRequested)
        {
            // A client claimed it.
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
                (_maintained, _maintainedLeaves) = (null, null);
            }
        }
    }

    // The host's clock minus its timer. The difference changes only when the clock is set.
    private TimeSpan ClockOffset() => _time.GetUtcNow() - DateTimeOffset.UnixEpoch - _time.GetElapsedTime(0);

    // Under the lock. The maintenance of a claimed microVM is cancelled: the clock of a guest in use is not set.
    private void StopMaintenance(MicroVm microVm)
    {
        if (_maintained == microVm)
        {
            _ = _maintainedLeaves!.CancelAsync();
        }
    }
}
