namespace Pandora.Fakes;

/// <summary>
/// Fake time whose wall clock can be set, as an operator or NTP sets that of a host. Timers and timestamps are not affected.
/// </summary>
internal sealed class FakeTime : CountingTime
{
    private readonly Lock _lock = new();
    private TimeSpan _offset;

    public void Jump(TimeSpan by)
    {
        lock (_lock)
        {
            _offset += by;
        }
    }

    public override DateTimeOffset GetUtcNow()
    {
        lock (_lock)
        {
            return base.GetUtcNow() + _offset;
        }
    }

    // The base class computes the timestamp from the wall clock.
    public override long GetTimestamp()
    {
        lock (_lock)
        {
            return base.GetTimestamp() - _offset.Ticks;
        }
    }
}
