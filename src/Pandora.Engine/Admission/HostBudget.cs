namespace Pandora.Engine.Admission;

/// <summary>
/// The memory and the virtual CPUs that the microVMs of a node may have together: the host's memory less a reserve, and the host's
/// processors, each times its overcommit. Every microVM holds a part from before its VMM starts until that has ended. What is short goes to
/// starts that clients wait for: no microVM is warmed up while one of those finds no room.
/// </summary>
/// <param name="capacity">What the host has.</param>
/// <param name="options">Reserve and overcommit.</param>
/// <param name="overheadBytes">Memory that a VMM needs besides its guest's.</param>
internal sealed class HostBudget(HostCapacity capacity, EngineOptions options, long overheadBytes)
{
    private const long MiB = 1024 * 1024;
    private readonly Lock _lock = new();
    private TaskCompletionSource _freed = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private long _memory;
    private int _vcpus, _awaiting;

    /// <summary>MiB that all microVMs together may have.</summary>
    public long MemoryMib { get; } = (long)(Math.Max(0, capacity.MemoryMib - options.MemoryReserve) * options.MemoryOvercommit);

    /// <summary>Virtual CPUs that all microVMs together may have.</summary>
    public int Vcpus { get; } = (int)Math.Min(1_000_000, Math.Max(1, capacity.Processors * options.CpuOvercommit));

    /// <summary>Called when a microVM has given back its part.</summary>
    public event Action? Freed;

    /// <summary>What microVMs hold now.</summary>
    public (long MemoryMib, int Vcpus) Held
    {
        get
        {
            lock (_lock)
            {
                return (_memory, _vcpus);
            }
        }
    }

    /// <summary>MiB that a microVM of a size takes: its guest's memory, and what its VMM needs besides.</summary>
    public long MemoryOf(MicroVmSize size) => size.MemoryMib + (overheadBytes / MiB);

    /// <summary>Whether a microVM that no client waits for may start.</summary>
    public bool HasRoomToWarm(MicroVmSize size)
    {
        lock (_lock)
        {
            return _awaiting == 0 && Fits(size);
        }
    }

    /// <summary>Takes a part for a microVM that no client waits for.</summary>
    /// <returns>Null when there is no room.</returns>
    public Hold? TryTake(MicroVmSize size)
    {
        lock (_lock)
        {
            return _awaiting == 0 && Fits(size) ? Take(size) : null;
        }
    }

    /// <summary>Takes a part for a microVM that exists already, even over the budget.</summary>
    public Hold TakeExisting(MicroVmSize size)
    {
        lock (_lock)
        {
            return Take(size);
        }
    }

    /// <summary>Takes a part for a microVM that a client waits for, when there is room.</summary>
    /// <param name="size">Its size.</param>
    /// <param name="giveWay">Ends a microVM that is not needed now; false when there is none.</param>
    /// <param name="isAwaited">Whether a client still waits.</param>
    /// <param name="time">Clock of the pauses after which <paramref name="isAwaited"/> is asked again.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Null when no client waits any more.</returns>
    public async Task<Hold?> TakeAsync(
        MicroVmSize size, Func<bool> giveWay, Func<bool> isAwaited, TimeProvider time, CancellationToken cancellationToken)
    {
        var isCounted = false;
        try
        {
            while (true)
            {
                Task freed;
                lock (_lock)
                {
                    if (Fits(size))
                    {
                        return Take(size);
                    }

                    freed = _freed.Task;
                    _awaiting += isCounted ? 0 : 1;
                    isCounted = true;
                }

                if (!isAwaited())
                {
                    return null;
                }

                giveWay();
                await Task.WhenAny(freed, Task.Delay(Pause, time, cancellationToken));
                cancellationToken.ThrowIfCancellationRequested();
            }
        }
        finally
        {
            if (isCounted)
            {
                lock (_lock)
                {
                    _awaiting--;
                }

                Freed?.Invoke();
            }
        }
    }

    private static readonly TimeSpan Pause = TimeSpan.FromSeconds(1);

    // Under the lock.
    private bool Fits(MicroVmSize size) => _memory + MemoryOf(size) <= MemoryMib && _vcpus + size.Vcpus <= Vcpus;

    // Under the lock.
    private Hold Take(MicroVmSize size)
    {
        _memory += MemoryOf(size);
        _vcpus += size.Vcpus;
        return new Hold(this, size);
    }

    private void Return(MicroVmSize size)
    {
        TaskCompletionSource freed;
        lock (_lock)
        {
            _memory -= MemoryOf(size);
            _vcpus -= size.Vcpus;
            freed = _freed;
            _freed = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        }

        freed.SetResult();
        Freed?.Invoke();
    }

    /// <summary>The part of one microVM.</summary>
    internal sealed class Hold(HostBudget budget, MicroVmSize size)
    {
        private int _isHeld = 1;

        /// <summary>Gives it back, once.</summary>
        public void Release()
        {
            if (Interlocked.Exchange(ref _isHeld, 0) == 1)
            {
                budget.Return(size);
            }
        }
    }
}
