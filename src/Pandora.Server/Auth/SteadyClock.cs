namespace Pandora.Server.Auth;

/// <summary>The host's clock, except that it never goes back: when the clock is set back, this one goes on from where it was.</summary>
internal sealed class SteadyClock(TimeProvider time)
{
    private readonly Lock _lock = new();
    private DateTimeOffset _latest = time.GetUtcNow();
    private long _readAt = time.GetTimestamp();

    /// <summary>The time now.</summary>
    public DateTimeOffset Now
    {
        get
        {
            lock (_lock)
            {
                var timestamp = time.GetTimestamp();
                var (steady, wall) = (_latest + time.GetElapsedTime(_readAt, timestamp), time.GetUtcNow());
                (_latest, _readAt) = (steady > wall ? steady : wall, timestamp);
                return _latest;
            }
        }
    }
}
