namespace Pandora.Engine.Networking;

/// <summary>
/// How much of the host's connection tracking guests may take. The kernel counts open connections exactly but not those that have just
/// closed (nf_conncount leaves out TIME_WAIT and CLOSE), so those are bounded by the rate of new ones and by how long a closed one is kept.
/// Together: a quarter of the table for open ones, a sixth for closed ones, at most half in all.
/// </summary>
/// <param name="PerSlot">Most open connections of one guest.</param>
/// <param name="SlotRate">New connections a second of one guest, after its burst.</param>
/// <param name="SlotBurst">New connections of one guest at once.</param>
/// <param name="AllRate">New connections a second of all guests together, and as many at once.</param>
internal sealed record ConnectionBounds(long PerSlot, long SlotRate, long SlotBurst, long AllRate)
{
    /// <summary>Seconds that a closed connection is kept, and an idle one.</summary>
    public const int ClosedSeconds = 10, IdleSeconds = 3600;

    /// <summary>Fewer connections than these are too few for ordinary programs.</summary>
    public const int Comfortable = 128;

    /// <summary>The bounds for a host.</summary>
    /// <param name="maximum">Most connections that its kernel tracks.</param>
    /// <param name="slots">Most slots that there can be at once.</param>
    public static ConnectionBounds For(long maximum, int slots)
    {
        var all = Math.Max(8, maximum / 64);
        return new ConnectionBounds(Math.Max(1, maximum / 4 / slots), Math.Clamp(all / 8, 1, 200), Math.Clamp(all / 2, 1, 2000), all);
    }

    /// <summary>Most entries that all guests together can have: open ones, the closed ones of the last seconds, one burst.</summary>
    public long AtMost(int slots) => (PerSlot * slots) + (AllRate * (ClosedSeconds + 1));
}
