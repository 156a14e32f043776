using Microsoft.Extensions.Time.Testing;

namespace Pandora.Fakes;

/// <summary>
/// Fake time whose wall clock can be set, as an operator or NTP sets a host's: timers and timestamps go on as if nothing were.
/// </summary>
internal sealed class FakeTime : FakeTimeProvider
{
    private TimeSpan _offset;

    public void Jump(TimeSpan by) => _offset += by;

    public override DateTimeOffset GetUtcNow() => base.GetUtcNow() + _offset;

    // The base makes it from the wall clock.
    public override long GetTimestamp() => base.GetTimestamp() - _offset.Ticks;
}
