namespace Pandora.Engine.Networking;

/// <summary>
/// How much of the host's connection tracking table guests may use. The kernel counts open connections exactly, but not those that have
/// just closed (nf_conncount does not count TIME_WAIT and CLOSE). Closed connections are limited by the rate of new connections and by the
/// time that a closed one is kept. Together: a quarter of the table for open connections, a sixth for closed ones, at most half in all.
/// </summary>
/// <param name="PerSlot">Most open connections of one guest.</param>
/// <param name="SlotRate">Most new connections per second of one guest, after its burst.</param>
/// <param name="SlotBurst">Most new connections of one guest at once.</param>
/// <param name="AllRate">Most new connections per second of all guests together, and most at once.</param>
internal sealed record ConnectionBounds(long PerSlot, long SlotRate, long SlotBurst, long AllRate)
{
    /// <summary>Seconds that the kernel keeps a closed connection, and an idle connection.</summary>
    public const int ClosedSeconds = 10, IdleSeconds = 3600;

    /// <summary>Fewer connections than this are too few for ordinary programs.</summary>
    public const int Comfortable = 128;

    /// <summary>Computes the bounds for a host.</summary>
    /// <param name="maximum">Most connections that its kernel tracks.</param>
    /// <param name="slots">Most slots that can exist at once.</param>
    public static ConnectionBounds For(long maximum, int slots)
    {
        var all = Math.Max(8, maximum / 64);
        return new ConnectionBounds(Math.Max(1, maximum / 4 / slots), Math.Clamp(all / 8, 1, 200), Math.Clamp(all / 2, 1, 2000), all);
    }

    /// <summary>Most entries that all guests together can have: open connections, those closed in the last seconds, one burst.</summary>
    public long AtMost(int slots) => (PerSlot * slots) + (AllRate * (ClosedSeconds + 1));
}
