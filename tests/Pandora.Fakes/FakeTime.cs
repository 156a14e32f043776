namespace Pandora.Fakes;

/// <summary>
/// Fake time whose wall clock can be set, as an operator or NTP sets that of a host. Timers and timestamps are not affected.
/// </summary>
internal sealed class FakeTime : CountingTime
{
    private long _offset;

    public void Jump(TimeSpan by) => Interlocked.Add(ref _offset, by.Ticks);

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + TimeSpan.FromTicks(Interlocked.Read(ref _offset));

    // The base class computes the timestamp from the wall clock, which may be set meanwhile.
    public override long GetTimestamp()
    {
        while (true)
        {
            var offset = Interlocked.Read(ref _offset);
            var timestamp = base.GetTimestamp() - offset;
            if (Interlocked.Read(ref _offset) == offset)
            {
                return timestamp;
            }
        }
    }
}
