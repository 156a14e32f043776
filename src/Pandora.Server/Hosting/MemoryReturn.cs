namespace Pandora.Server.Hosting;

/// <summary>
/// Gives memory back to the host. The collector cleans its oldest generation when that has grown by enough: a server that had to hold many
/// results and is quiet now would keep their memory for good. So every <see cref="Interval"/> this looks whether the heap is much larger
/// than it need be, cleans it, and returns what is free.
/// </summary>
internal sealed class MemoryReturn : IDisposable
{
    /// <summary>Time between two looks.</summary>
    internal static readonly TimeSpan Interval = TimeSpan.FromSeconds(5);

    // Cleaning stops everything for some tens of milliseconds: not for less than this, and ever more seldom where it finds nothing.
    private const long MinGain = 48L << 20;
    private static readonly TimeSpan MaxPause = TimeSpan.FromMinutes(5);
    private readonly TimeProvider _time;
    private readonly Func<long> _readCommitted;
    private readonly Action _clean;
    private readonly ITimer _timer;
    private TimeSpan _pause = Interval;
    private long _left, _least, _cleanedAt, _released;

    /// <summary>Starts it.</summary>
    public MemoryReturn(TimeProvider time)
        : this(
            time, static () => GC.GetGCMemoryInfo(GCKind.Any).TotalCommittedBytes,
            static () => GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true))
    {
    }

    internal MemoryReturn(TimeProvider time, Func<long> readCommitted, Action clean)
    {
        (_time, _readCommitted, _clean) = (time, readCommitted, clean);
        _left = _least = readCommitted();
        _timer = time.CreateTimer(_ => Check(), null, Interval, Interval);
    }

    /// <summary>Something large is held no more.</summary>
    public void Released(long bytes) => Interlocked.Add(ref _released, bytes);

    /// <inheritdoc/>
    public void Dispose() => _timer.Dispose();

    private void Check()
    {
        var committed = _readCommitted();
        _left = Math.Min(_left, committed);
        var hasGrown = committed >= _left + MinGain;
        var mayBeFree = committed >= _least + MinGain && _time.GetElapsedTime(_cleanedAt) >= _pause;
        var isFree = Interlocked.Read(ref _released) >= MinGain;
        if (!hasGrown && !mayBeFree && !isFree)
        {
            return;
        }

        Interlocked.Exchange(ref _released, 0);
        _clean();
        _cleanedAt = _time.GetTimestamp();
        _left = _readCommitted();
        _least = Math.Min(_least, _left);
        // What is in use is looked at again after twice the time: it goes back about as late as it was held long.
        var isWorthIt = hasGrown || committed - _left >= MinGain;
        _pause = isWorthIt ? Interval : TimeSpan.FromTicks(Math.Min(_pause.Ticks * 2, MaxPause.Ticks));
    }
}
