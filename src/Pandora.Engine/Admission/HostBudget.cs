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

    /// <summary>
    /// Begins to end a warm microVM, when all warm ones together have what is missing; null when they have not. The pools set it. Its
    /// task ends when nothing of the microVM remains.
    /// </summary>
    public Func<Room, Task?> GiveWay { get; set; } = static _ => null;

    /// <summary>Whether a start that goes before warming up finds no room.</summary>
    public bool IsShort
    {
        get
        {
            lock (_lock)
            {
                return _awaiting > 0;
            }
        }
    }

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

    /// <summary>
    /// Takes a part, when there is room, for a microVM that goes before warming up: a client or a snapshot waits for it. Warm microVMs give
    /// way, one after the other.
    /// </summary>
    /// <param name="size">Its size.</param>
    /// <param name="isAwaited">Whether it is still waited for.</param>
    /// <param name="time">Clock of the pauses after which <paramref name="isAwaited"/> is asked again.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <returns>Null when no client waits any more.</returns>
    public async Task<Hold?> TakeAsync(
        MicroVmSize size, Func<bool> isAwaited, TimeProvider time, CancellationToken cancellationToken)
    {
        var isCounted = false;
        Task? ending = null;
        try
        {
            while (true)
            {
                Task freed;
                Room missing;
                lock (_lock)
                {
                    if (Fits(size))
                    {
                        return Take(size);
                    }

                    freed = _freed.Task;
                    missing = new Room(_memory + MemoryOf(size) - MemoryMib, _vcpus + size.Vcpus - Vcpus);
                    _awaiting += isCounted ? 0 : 1;
                    isCounted = true;
                }

                if (!isAwaited())
                {
                    return null;
                }

                // The next one only when the last has ended, because that may be enough.
                if (ending is null or { IsCompleted: true })
                {
                    ending = GiveWay(missing);
                }

                await Task.WhenAny(freed, ending ?? freed, Task.Delay(Pause, time, cancellationToken));
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

    /// <summary>An amount of memory and of virtual CPUs.</summary>
    internal readonly record struct Room(long MemoryMib, int Vcpus);

    /// <summary>The part of one microVM.</summary>
    internal sealed class Hold
    {
        private readonly HostBudget _budget;
        private readonly MicroVmSize _size;
        private readonly Shares _shares;
        private int _isHeld = 1;

        public Hold(HostBudget budget, MicroVmSize size)
            : this(budget, size, new Shares())
        {
        }

        private Hold(HostBudget budget, MicroVmSize size, Shares shares) => (_budget, _size, _shares) = (budget, size, shares);

        /// <summary>
        /// Holds the same part once more: it is given back when both were released. A second attempt to start the microVM keeps the part of
        /// the first. This one must not have been released.
        /// </summary>
        public Hold Share()
        {
            Interlocked.Increment(ref _shares.Count);
            return new Hold(_budget, _size, _shares);
        }

        /// <summary>Gives it back, once.</summary>
        public void Release()
        {
            if (Interlocked.Exchange(ref _isHeld, 0) == 1 && Interlocked.Decrement(ref _shares.Count) == 0)
            {
                _budget.Return(_size);
            }
        }

        private sealed class Shares
        {
            public int Count = 1;
        }
    }
}
