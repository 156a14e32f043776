using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>
/// A network identity: a namespace with a tap for the guest, and a veth pair to the host. Inside every slot the guest is 172.16.0.2 behind
/// 172.16.0.1; the host reaches it by the slot's own address.
/// </summary>
/// <param name="Index">Number of the slot, from 0.</param>
/// <param name="NamespaceName">Name of its network namespace.</param>
/// <param name="InterfaceName">The host's end of the veth pair.</param>
/// <param name="HostAddress">The host's address on it.</param>
/// <param name="Address">Where the host reaches the guest.</param>
public sealed record NetworkSlot(int Index, string NamespaceName, string InterfaceName, IPAddress HostAddress, IPAddress Address)
{
    /// <summary>The guest's own address, the same in every slot.</summary>
    public const string GuestAddress = "172.16.0.2";

    /// <summary>The guest's gateway and resolver, the same in every slot.</summary>
    public const string GatewayAddress = "172.16.0.1";

    /// <summary>The gateway's MAC address, the same in every slot: a restored guest has it in its neighbour table.</summary>
    public const string GatewayMac = "02:fc:00:00:00:01";

    /// <summary>The guest's MAC address, the same in every slot.</summary>
    public const string GuestMac = "02:fc:00:00:00:02";

    /// <summary>The tap, the same in every slot.</summary>
    public const string TapName = "tap0";

    /// <summary>Where the namespace can be entered.</summary>
    public string NamespacePath => $"{HostNames.NamespaceDirectory}/{NamespaceName}";

    /// <summary>The slot with a number.</summary>
    public static NetworkSlot At(int index, HostNames names, Ipv4Network network) =>
        new(
            index,
            $"{names.NamespacePrefix}{index}",
            $"{names.InterfacePrefix}{index}",
            network.At((index * 4L) + 1),
            network.At((index * 4L) + 2));
}
