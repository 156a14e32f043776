using System.Buffers.Binary;
using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>Lists and deletes the connections that the host's kernel tracks for slots. The instance's mark and the slot's address select
/// them (include/uapi/linux/netfilter/nfnetlink_conntrack.h; filters need Linux 5.8).</summary>
internal static class Conntrack
{
    private const ushort List = 0x0101, Delete = 0x0102; // NFNL_SUBSYS_CTNETLINK with IPCTNL_MSG_CT_GET, IPCTNL_MSG_CT_DELETE
    private const ushort Original = 1, Mark = 8, MarkMask = 21, Filter = 25; // CTA_…
    private const ushort Addresses = 1, Source = 1, Destination = 2; // CTA_TUPLE_IP; CTA_IP_V4_SRC, CTA_IP_V4_DST
    private const string MaximumPath = "/proc/sys/net/netfilter/nf_conntrack_max";

    /// <summary>Most connections that the kernel tracks in one namespace; 65,536, the default of a small host, if that is not
    /// known.</summary>
    public static long Maximum =>
        File.Exists(MaximumPath) && long.TryParse(File.ReadAllText(MaximumPath), out var maximum) && maximum > 0 ? maximum : 65536;

    /// <summary>Counts the entries of a slot's address, as the source and as the destination of the connection.</summary>
    /// <exception cref="IOException">The kernel did not answer.</exception>
    public static int Count(uint mark, IPAddress address)
    {
        var count = 0;
        using var netlink = new Netlink(Netlink.Netfilter);
        foreach (var side in new[] { Source, Destination })
        {
            netlink.List(List, Body(mark, address, side), (_, _) => count++);
        }

        return count;
    }

    /// <summary>Whether a slot's address has entries. Also true when the kernel did not answer, because then entries may remain.</summary>
    public static bool Exists(uint mark, IPAddress address)
    {
        try
        {
            return Count(mark, address) > 0;
        }
        catch (IOException)
        {
            return true;
        }
    }

    /// <summary>Lists source and destination of each entry with a mark. The source is the side that opened the connection.</summary>
    /// <exception cref="IOException">The kernel did not answer.</exception>
    public static IReadOnlyList<(IPAddress Source, IPAddress Destination)> Read(uint mark)
    {
        var found = new List<(IPAddress, IPAddress)>();
        using var netlink = new Netlink(Netlink.Netfilter);
        netlink.List(List, [.. Header(), .. MarkAttributes(mark)], (_, body) =>
        {
            // After struct nfgenmsg.
            var addresses = Netlink.Find(Netlink.Find(body[4..], Original), Addresses);
            if (Netlink.Find(addresses, Source) is { Length: 4 } source
                && Netlink.Find(addresses, Destination) is { Length: 4 } destination)
            {
                found.Add((new IPAddress(source), new IPAddress(destination)));
            }
        });
        return found;
    }

    /// <summary>Deletes a slot's entries.</summary>
    /// <exception cref="IOException">The kernel refused.</exception>
    public static void Remove(uint mark, IPAddress address)
    {
        using var netlink = new Netlink(Netlink.Netfilter);
        foreach (var side in new[] { Source, Destination })
        {
            Remove(netlink, mark, address, side);
        }
    }

    /// <summary>Deletes the entries of the connections that an address opened, in the calling thread's namespace.</summary>
    /// <param name="mark">Mark of the entries; null for any.</param>
    /// <param name="address">The address.</param>
    /// <exception cref="IOException">The kernel refused.</exception>
    public static void RemoveOpened(uint? mark, IPAddress address)
    {
        using var netlink = new Netlink(Netlink.Netfilter, bufferBytes: 4096);
        Remove(netlink, mark, address, Source);
    }

    private static void Remove(Netlink netlink, uint? mark, IPAddress address, ushort side)
    {
        try
        {
            netlink.Ask(Delete, Body(mark, address, side));
        }
        catch (IOException e) when (e.HResult == 2)
        {
            // ENOENT: there is no entry.
        }
    }

    private static byte[] Body(uint? mark, IPAddress address, ushort side)
    {
        var flags = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(flags, side == Source ? 1u : 2u);
        return
        [
            .. Header(), .. Netlink.Nested(Original, Netlink.Nested(Addresses, Netlink.Attribute(side, address.GetAddressBytes()))),
            .. mark is { } known ? MarkAttributes(known) : [],
            .. Netlink.Nested(Filter, Netlink.Attribute(1, flags), Netlink.Attribute(2, new byte[4])),
        ];
    }

    // struct nfgenmsg: IPv4, version 1 (the family counts), resource 0.
    private static byte[] Header() => [2, 1, 0, 0];

    private static byte[] MarkAttributes(uint mark)
    {
        var value = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(value, mark);
        return [.. Netlink.Attribute(Mark, value), .. Netlink.Attribute(MarkMask, [255, 255, 255, 255])];
    }
}
