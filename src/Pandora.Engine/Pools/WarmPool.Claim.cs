using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Pools;

// Hands out microVMs: a warm one at once, or the next one that becomes available to the waiting claim whose turn it is.
public sealed partial class WarmPool
{
    // Longer than a boot takes: the reserve is kept as long as boots succeed.
    private static readonly TimeSpan LongestReserve = TimeSpan.FromSeconds(10);
    private readonly WaitingClaims _waiting;
    private readonly ITimer _reserveEnds;
    private long _lastAvailable;
    private bool _isReserveTimed;

    /// <summary>
    /// Claims a living microVM. A claim takes a warm one at once, unless an earlier claim of its project waits. Else it waits: the projects
    /// are served in turn, and the claims of a project in order.
    /// </summary>
    /// <param name="project">Name of the project that claims.</param>
    /// <param name="timeout">Longest wait.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">None became ready in time, too many claims wait, or the pool is closing. When too many wait, the
    /// newest claim of the project with the most is refused, which may be this one at once or later.</exception>
    public async ValueTask<ClaimedMicroVm> ClaimAsync(string project, TimeSpan timeout, CancellationToken cancellationToken)
    {
        MicroVm? warm;
        WaitingClaim? claim = null;
        lock (_lock)
        {
            if (_isClosed)
            {
                throw IsClosing();
            }

            warm = _waiting.CountOf(project) == 0 ? TakeWarm() : null;
            if (warm is not null)
            {
                _waiting.NoteServed(project);
            }
            else
            {
                claim = AddWaiting(project);
            }
        }

        Wake();
        return warm is not null
            ? new ClaimedMicroVm(warm, IsWarm: true)
            : new ClaimedMicroVm(await WaitAsync(claim!, timeout, cancellationToken), IsWarm: false);
    }

    private async Task<MicroVm> WaitAsync(WaitingClaim claim, TimeSpan timeout, CancellationToken cancellationToken)
    {
        try
        {
            return await claim.Task.WaitAsync(timeout, _time, cancellationToken);
        }
        catch (Exception e) when (e is TimeoutException or OperationCanceledException)
        {
            if (!StopWaiting(claim))
            {
                // It was served or refused at this very moment: a microVM that was handed to it must not be lost.
                return await claim.Task;
            }

            if (e is OperationCanceledException)
            {
                throw;
            }

            if (_isShort())
            {
                throw new PandoraException(
                    PandoraError.HostFull,
                    $"the host had no room for another microVM within {timeout.TotalSeconds:0} s: delete sandboxes, or try again when some "
                        + "have ended");
            }

            // The cause of a failed boot is about the host, in the words of its programs: it is for the operator, not for the client.
            throw new PandoraException(PandoraError.PoolEmpty, $"no microVM became ready within {timeout.TotalSeconds:0} s")
            {
                Hint = _lastFailure is null ? null : $"the last boot failed: {_lastFailure}",
            };
        }
    }

    private bool StopWaiting(WaitingClaim claim)
    {
        bool isRemoved;
        lock (_lock)
        {
            isRemoved = _waiting.Remove(claim);
        }

        Wake();
        return isRemoved;
    }

    // Under the lock.
    private WaitingClaim AddWaiting(string project)
    {
        if (_waiting.Count >= _maxWaiting)
        {
            var refused = _waiting.TakeNewestOfLongest(project) ?? throw IsOverloaded("no more may wait");
            refused.SetException(IsOverloaded("this claim made room for one of a project with fewer"));
        }

        if (_waiting.Count == 0)
        {
            _lastAvailable = _time.GetTimestamp();
        }

        var claim = _waiting.Add(project);
        ServeWaiting();
        return claim;
    }

    // Under the lock. Makes a microVM available: to the next waiting claim, else as a warm one. If the pool closes meanwhile, CloseAsync
    // finds it among the warm ones and ends it.
    private void Offer(MicroVm microVm)
    {
        _lastAvailable = _time.GetTimestamp();
        _warm.AddLast(microVm);
        ServeWaiting();
    }

    // Under the lock. A microVM and its waiter leave the counts at the same moment: else one microVM too many would be booted.
    private void ServeWaiting()
    {
        while (_waiting.Count > 0 && _warm.Count > 0)
        {
            if (_warm.Count == 1 && ReserveLeft() is var left && left > TimeSpan.Zero)
            {
                TimeReserve(left);
                return;
            }

            if (TakeOldest() is { } microVm)
            {
                _waiting.TakeNext().SetResult(microVm);
            }
        }
    }

    // How long the last warm microVM is kept from the claims that wait; zero when it is not.
    private TimeSpan ReserveLeft() =>
        _size >= 2 && _waiting.HasIdleProject ? LongestReserve - _time.GetElapsedTime(_lastAvailable) : TimeSpan.Zero;

    // Under the lock. One timer serves all: when it fires early for a reserve that began later, it is set again.
    private void TimeReserve(TimeSpan left)
    {
        if (!_isReserveTimed)
        {
            // A timer counts in whole milliseconds, and must not fire before the time.
            _isReserveTimed = _reserveEnds.Change(left + TimeSpan.FromMilliseconds(1), Timeout.InfiniteTimeSpan);
        }
    }

    private void EndReserve()
    {
        lock (_lock)
        {
            _isReserveTimed = false;
            ServeWaiting();
        }

        Wake();
    }

    // Under the lock.
    private MicroVm? TakeWarm()
    {
        while (_warm.Count > 0)
        {
            if (TakeOldest() is { } microVm)
            {
                return microVm;
            }
        }

        return null;
    }

    // Under the lock. Null when the oldest has died: it is ended.
    private MicroVm? TakeOldest()
    {
        var oldest = _warm.First!.Value;
        _warm.RemoveFirst();
        StopMaintenance(oldest);
        if (oldest.IsAlive)
        {
            return oldest;
        }

        End(oldest);
        return null;
    }

    private PandoraException IsOverloaded(string reason) =>
        new(PandoraError.Overloaded, $"{_maxWaiting} clients wait for a microVM, and {reason}: try again later")
        {
            Hint = "PANDORA_MAX_WAITING sets how many may wait",
        };

    private static PandoraException IsClosing() => new(PandoraError.ShuttingDown, "the server is shutting down");
}
