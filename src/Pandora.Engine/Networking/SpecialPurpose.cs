namespace Pandora.Engine.Networking;

/// <summary>Ranges that no guest reaches unless the operator allows them.</summary>
internal static class SpecialPurpose
{
    /// <summary>
    /// Every block of IANA's IPv4 Special-Purpose Address Registry, version of 2020-09-04 (RFC 6890). This includes the blocks marked
    /// "globally reachable" (AS112, AMT, anycast of 192.0.0.0/24), because a host of the nearest network answers there. Also multicast and
    /// reserved addresses (224.0.0.0/3), and 168.63.129.16, the address of Azure's services for its machines, which is not in the registry.
    /// The metadata addresses of other clouds are in 169.254.0.0/16, 100.64.0.0/10 and 192.0.0.0/24.
    /// </summary>
    public static readonly IReadOnlyList<string> Ranges =
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    ];
}
