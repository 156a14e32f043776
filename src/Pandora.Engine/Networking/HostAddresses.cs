using System.Buffers.Binary;
using System.Text;

namespace Pandora.Engine.Networking;

/// <summary>The host's IPv4 addresses, and the networks of its interfaces.</summary>
/// <param name="Own">Addresses of the host.</param>
/// <param name="OnLink">Networks of its interfaces, public networks too: their machines are the host's neighbours, not the
/// internet.</param>
internal sealed record HostAddresses(IReadOnlyList<Ipv4Network> Own, IReadOnlyList<Ipv4Network> OnLink)
{
    private const ushort GetAddresses = 22; // RTM_GETADDR
    private const ushort Peer = 1, Local = 2, Label = 3; // IFA_ADDRESS, IFA_LOCAL, IFA_LABEL

    /// <summary>Reads the addresses from the kernel (rtnetlink(7)). Interfaces of slots are omitted, also those of other instances: they
    /// change with each microVM, and each instance's table protects its slots.</summary>
    /// <exception cref="IOException">The kernel did not answer.</exception>
    public static HostAddresses Read()
    {
        var (own, onLink) = (new SortedSet<Ipv4Network>(ByAddress), new SortedSet<Ipv4Network>(ByAddress));
        using var netlink = new Netlink(Netlink.Route);
        // struct ifaddrmsg: family, prefix length, flags, scope, interface.
        netlink.List(GetAddresses, [2, 0, 0, 0, 0, 0, 0, 0], (_, body) =>
        {
            var attributes = body[8..];
            var label = Encoding.ASCII.GetString(Netlink.Find(attributes, Label)).TrimEnd('\0');
            if (label.StartsWith(HostNames.AnyInterfacePrefix, StringComparison.Ordinal)
                || Netlink.Find(attributes, Local) is not { Length: 4 } local)
            {
                return;
            }

            own.Add(new Ipv4Network(BinaryPrimitives.ReadUInt32BigEndian(local), 32));
            // On a point-to-point link this is the address of the other end.
            if (Netlink.Find(attributes, Peer) is { Length: 4 } peer && body[1] > 0)
            {
                onLink.Add(Ipv4Network.Of(BinaryPrimitives.ReadUInt32BigEndian(peer), body[1]));
            }
        });
        return new HostAddresses([.. own], [.. onLink]);
    }

    /// <summary>Whether both are the same addresses.</summary>
    public bool IsSameAs(HostAddresses other) => Own.SequenceEqual(other.Own) && OnLink.SequenceEqual(other.OnLink);

    private static readonly Comparer<Ipv4Network> ByAddress =
        Comparer<Ipv4Network>.Create((a, b) => (a.Address, a.PrefixLength).CompareTo((b.Address, b.PrefixLength)));
}
