using System.Collections.Concurrent;
using Microsoft.Extensions.Time.Testing;

namespace Pandora.Fakes;

/// <summary>
/// Fake time that counts the timers that were set. A timer that is set after the time was advanced does not fire: a test waits for it
/// first, and for no real time.
/// </summary>
internal class CountingTime : FakeTimeProvider
{
    private readonly ConcurrentDictionary<TimeSpan, int> _timers = [];

    /// <summary>Timers that were set so far.</summary>
    public int Timers => _timers.Values.Sum();

    /// <summary>Timers that were set so far to fire after this time.</summary>
    public int TimersOf(TimeSpan dueTime) => _timers.GetValueOrDefault(dueTime);

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var timer = base.CreateTimer(callback, state, dueTime, period);
        _timers.AddOrUpdate(dueTime, 1, (_, count) => count + 1);
        return timer;
    }
}
