using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>
/// A network identity: a namespace with a tap device for the guest, and a veth pair to the host. In every slot the guest has the address
/// 172.16.0.2 and the gateway 172.16.0.1; the host reaches the guest at the slot's address.
/// </summary>
/// <param name="Index">Number of the slot, from 0.</param>
/// <param name="NamespaceName">Name of its network namespace.</param>
/// <param name="InterfaceName">The host's end of the veth pair.</param>
/// <param name="HostAddress">The host's address on that interface.</param>
/// <param name="Address">The slot's address, at which the host reaches the guest.</param>
public sealed record NetworkSlot(int Index, string NamespaceName, string InterfaceName, IPAddress HostAddress, IPAddress Address)
{
    /// <summary>The guest's own address, the same in every slot.</summary>
    public const string GuestAddress = "172.16.0.2";

    /// <summary><see cref="GuestAddress"/>, parsed.</summary>
    internal static IPAddress Guest { get; } = IPAddress.Parse(GuestAddress);

    /// <summary>The guest's gateway and resolver, the same in every slot.</summary>
    public const string GatewayAddress = "172.16.0.1";

    /// <summary>The gateway's MAC address, the same in every slot, because a restored guest has it in its neighbour table.</summary>
    public const string GatewayMac = "02:fc:00:00:00:01";

    /// <summary>The guest's MAC address, the same in every slot.</summary>
    public const string GuestMac = "02:fc:00:00:00:02";

    /// <summary>Name of the tap device, the same in every slot.</summary>
    public const string TapName = "tap0";

    /// <summary>The file by which a thread enters the namespace.</summary>
    public string NamespacePath => $"{HostNames.NamespaceDirectory}/{NamespaceName}";

    /// <summary>Returns the slot with a number.</summary>
    public static NetworkSlot At(int index, HostNames names, Ipv4Network network) =>
        new(
            index,
            $"{names.NamespacePrefix}{index}",
            $"{names.InterfacePrefix}{index}",
            network.At((index * 4L) + 1),
            network.At((index * 4L) + 2));
}
