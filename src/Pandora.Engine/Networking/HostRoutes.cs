using System.Buffers.Binary;
using System.Globalization;
using System.Net;
using System.Numerics;

namespace Pandora.Engine.Networking;

/// <summary>A route of the host.</summary>
/// <param name="Interface">Interface it leads out of.</param>
/// <param name="Destination">Where it leads.</param>
public sealed record HostRoute(string Interface, Ipv4Network Destination);

/// <summary>The host's IPv4 routes and resolvers, as the kernel and resolv.conf(5) tell them.</summary>
internal static class HostRoutes
{
    public static IReadOnlyList<HostRoute> Read() => Parse(File.ReadAllText("/proc/thread-self/net/route"));

    /// <summary>
    /// Columns of <c>/proc/net/route</c>: interface, destination, gateway, flags, …, mask (8th); numbers in hexadecimal of the host's byte
    /// order.
    /// </summary>
    public static IReadOnlyList<HostRoute> Parse(string table) =>
    [
        .. table.Split('\n').Skip(1).Select(l => l.Split('\t', StringSplitOptions.TrimEntries)).Where(f => f.Length > 7)
            .Select(f => new HostRoute(f[0], new Ipv4Network(Number(f[1]), BitOperations.PopCount(Number(f[7]))))),
    ];

    /// <summary>The interface that packets to an address leave by.</summary>
    public static string? InterfaceTo(IReadOnlyList<HostRoute> routes, IPAddress address) => routes
        .Where(r => r.Destination.Contains(address)).MaxBy(r => r.Destination.PrefixLength)?.Interface;

    /// <summary>
    /// The IPv4 resolvers; for systemd-resolved's stub the real ones behind it, because the stub answers nobody but the host.
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
