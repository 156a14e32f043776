using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Numerics;

namespace Pandora.Engine.Networking;

/// <summary>A route of the host.</summary>
/// <param name="Interface">Interface that the packets leave through.</param>
/// <param name="Destination">Range of the destinations.</param>
public sealed record HostRoute(string Interface, Ipv4Network Destination);

/// <summary>Reads the host's IPv4 routes from the kernel, and its resolvers from resolv.conf(5).</summary>
internal static class HostRoutes
{
    public static IReadOnlyList<HostRoute> Read() => Parse(File.ReadAllText("/proc/thread-self/net/route"));

    /// <summary>
    /// Reads the columns of <c>/proc/net/route</c>: interface, destination, gateway, flags, …, mask (8th). Numbers are hexadecimal, in the
    /// host's byte order.
    /// </summary>
    public static IReadOnlyList<HostRoute> Parse(string table) =>
    [
        .. table.Split('\n').Skip(1).Select(l => l.Split('\t', StringSplitOptions.TrimEntries)).Where(f => f.Length > 7)
            .Select(f => new HostRoute(f[0], new Ipv4Network(Number(f[1]), BitOperations.PopCount(Number(f[7]))))),
    ];

    /// <summary>Returns the interface that packets to an address leave through.</summary>
    public static string? InterfaceTo(IReadOnlyList<HostRoute> routes, IPAddress address) => routes
        .Where(r => r.Destination.Contains(address)).MaxBy(r => r.Destination.PrefixLength)?.Interface;

    /// <summary>
    /// Returns the IPv4 resolvers. In place of systemd-resolved's stub it returns the real resolvers, because the stub answers only the
    /// host.
    /// </summary>
    public static IReadOnlyList<IPAddress> Resolvers(string resolvConf, string resolvedConf = "/run/systemd/resolve/resolv.conf")
    {
        var servers = ReadServers(resolvConf);
        return servers.Any(s => s.ToString() == "127.0.0.53") && ReadServers(resolvedConf) is { Count: > 0 } real ? real : servers;
    }

    private static List<IPAddress> ReadServers(string path) => !File.Exists(path) ? [] :
    [
        .. File.ReadLines(path).Select(l => l.Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries))
            .Where(w => w.Length > 1 && w[0] == "nameserver")
            .Select(w => IPAddress.TryParse(w[1], out var address) ? address : null)
            .OfType<IPAddress>().Where(a => a.AddressFamily == System.Net.Sockets.AddressFamily.InterNetwork),
    ];

    private static uint Number(string hexadecimal)
    {
        var number = uint.Parse(hexadecimal, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
        return BitConverter.IsLittleEndian ? BinaryPrimitives.ReverseEndianness(number) : number;
    }
}
