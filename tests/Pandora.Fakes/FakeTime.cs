namespace Pandora.Fakes;

/// <summary>
/// Fake time whose wall clock can be set, as an operator or NTP sets that of a host. Timers and timestamps are not affected.
/// </summary>
internal sealed class FakeTime : CountingTime
{
    private TimeSpan _offset;

    public void Jump(TimeSpan by) => _offset += by;

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + _offset;

    // The base class computes the timestamp from the wall clock.
    public override long GetTimestamp() => base.GetTimestamp() - _offset.Ticks;
}
