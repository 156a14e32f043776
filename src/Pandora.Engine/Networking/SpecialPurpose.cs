namespace Pandora.Engine.Networking;

/// <summary>What no guest reaches unless the operator allows it, wherever the host is.</summary>
internal static class SpecialPurpose
{
    /// <summary>
    /// Every block of IANA's IPv4 Special-Purpose Address Registry as of its version of 2020-09-04 (RFC 6890), those marked "globally
    /// reachable" (AS112, AMT, anycast of 192.0.0.0/24) included: what answers there is the nearest network's own. Then multicast and
    /// reserved (224.0.0.0/3), and the address outside the registry by which a cloud serves its machines: 168.63.129.16 (Azure). The
    /// metadata addresses of the other clouds lie in 169.254.0.0/16, 100.64.0.0/10 and 192.0.0.0/24.
    /// </summary>
    public static readonly IReadOnlyList<string> Ranges =
    [
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/3",
    ];
}
