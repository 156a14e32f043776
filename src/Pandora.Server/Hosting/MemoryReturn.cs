namespace Pandora.Server.Hosting;

/// <summary>
/// Returns unused memory to the host. The garbage collector collects its oldest generation only after that has grown enough: a server that
/// held many results and is idle now would keep their memory. So every <see cref="Interval"/> this class checks whether the heap is much
/// larger than necessary. If so, it runs a full collection, which returns the free memory.
/// </summary>
internal sealed class MemoryReturn : IDisposable
{
    /// <summary>Time between two checks.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    // A collection stops the server for some tens of milliseconds. So it runs only when this much may be free, and the pause
    // before the next one grows when it freed less.
    private const long MinGain = 48L << 20;
    private static readonly TimeSpan MaxPause = TimeSpan.FromMinutes(5);
    private readonly TimeProvider _time;
    private readonly Func<long> _readCommitted;
    private readonly Action _collect;
    private readonly ITimer _timer;
    private TimeSpan _pause = Interval;
    // Committed bytes after the last collection (or less, if the heap shrank since), and the least after any collection.
    private long _base, _least;
    private long _collectedAt, _released;

    /// <summary>Starts the checks.</summary>
    public MemoryReturn(TimeProvider time)
        : this(
            time, static () => GC.GetGCMemoryInfo(GCKind.Any).TotalCommittedBytes,
            static () => GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true))
    {
    }

    internal MemoryReturn(TimeProvider time, Func<long> readCommitted, Action collect)
    {
        (_time, _readCommitted, _collect) = (time, readCommitted, collect);
        _base = _least = readCommitted();
        _timer = time.CreateTimer(_ => Check(), null, Interval, Interval);
    }

    /// <summary>Adds to the bytes that the server no longer holds.</summary>
    public void Released(long bytes) => Interlocked.Add(ref _released, bytes);

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void Check()
    {
        var committed = _readCommitted();
        _base = Math.Min(_base, committed);
        var hasGrown = committed >= _base + MinGain;
        var mayBeFree = committed >= _least + MinGain && _time.GetElapsedTime(_collectedAt) >= _pause;
        var isFree = Interlocked.Read(ref _released) >= MinGain;
        if (!hasGrown && !mayBeFree && !isFree)
        {
            return;
        }

        Interlocked.Exchange(ref _released, 0);
        _collect();
        _collectedAt = _time.GetTimestamp();
        _base = _readCommitted();
        _least = Math.Min(_least, _base);
        // If the memory is in use, the next try comes after twice the time. So memory is returned about as late as it was held long.
        var isWorthIt = hasGrown || committed - _base >= MinGain;
        _pause = isWorthIt ? Interval : TimeSpan.FromTicks(Math.Min(_pause.Ticks * 2, MaxPause.Ticks));
    }
}
