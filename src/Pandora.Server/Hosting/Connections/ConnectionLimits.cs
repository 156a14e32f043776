using System.Net;
using System.Net.Sockets;
using Pandora.Engine;

namespace Pandora.Server.Hosting.Connections;

/// <summary>Bounds of the connections to this server, all its addresses together.</summary>
/// <param name="Total">Most that may be open.</param>
/// <param name="PerAddress">Most that may be open from one address, or from one /64 of IPv6.</param>
/// <param name="IsExempt">Whether <paramref name="PerAddress"/> does not hold for an address.</param>
internal sealed record ConnectionLimits(int Total, int PerAddress, Func<IPAddress, bool> IsExempt)
{
    /// <summary>
    /// Descriptors that are kept for everything but connections, whatever else is settled: a shortage is noticed before it is one.
    /// </summary>
    public const int Margin = 64;

    // The runtime holds two for each assembly, 240 in all; children's pipes; and the margin.
    private const int Fixed = 320;
    // Of a microVM's, counted on a server with warm and busy ones.
    private const int PerMicroVm = 8;
    private const int Fewest = 64, Most = 8192;

    /// <summary>Time from the opening to the first byte.</summary>
    public TimeSpan FirstByte { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>
    /// Time from the opening to the end of a request's headers, and from a request that was not let pass to the next one.
    /// </summary>
    public TimeSpan Headers { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Descriptors that the microVMs may come to miss, because there are too few for the settings.</summary>
    public int Missing { get; init; }

    /// <summary>Works them out from the settings and the descriptors that there are.</summary>
    /// <exception cref="StartupException">A setting cannot be.</exception>
    public static ConnectionLimits From(EngineOptions engine, ServerOptions server, int descriptors)
    {
        var reserve = ReserveOf(engine);
        if (server.MaxConnections > Math.Max(descriptors - reserve, Fewest))
        {
            throw new StartupException(
                $"PANDORA_MAX_CONNECTIONS={server.MaxConnections} is more than descriptors allow: there may be {descriptors} " +
                $"(ulimit -n, LimitNOFILE=), and {reserve} are kept for microVMs. Lower it, or raise the limit of descriptors");
        }

        var proxies = ParseProxies(server.Proxies);
        return new ConnectionLimits(
            server.MaxConnections > 0 ? server.MaxConnections : Math.Clamp(descriptors - reserve, Fewest, Most),
            server.MaxConnectionsPerAddress > 0 ? server.MaxConnectionsPerAddress : int.MaxValue,
            address => IPAddress.IsLoopback(address) || proxies.Any(p => p.Contains(address)))
        {
            Missing = Math.Max(0, reserve + Fewest - descriptors),
        };
    }

    /// <summary>
    /// Descriptors that are kept from connections: for the microVMs that there may be at once, and for the server itself.
    /// </summary>
    internal static int ReserveOf(EngineOptions engine)
    {
        var warm = engine.PooledTemplates.Sum(engine.PoolSizeFor);
        return Fixed + (PerMicroVm * (engine.MaxSandboxes + warm));
    }

    /// <summary>What connections are counted by: the address, or of IPv6 the /64, of which each host has all.</summary>
    internal static IPAddress SourceOf(IPAddress address)
    {
        if (address.AddressFamily != AddressFamily.InterNetworkV6)
        {
            return address;
        }

        var bytes = address.GetAddressBytes();
        bytes.AsSpan(8).Clear();
        return new IPAddress(bytes);
    }

    private static List<IPNetwork> ParseProxies(string text)
    {
        var networks = new List<IPNetwork>();
        foreach (var entry in text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries))
        {
            if (IPNetwork.TryParse(entry, out var network))
            {
                networks.Add(network);
            }
            else if (IPAddress.TryParse(entry, out var address))
            {
                networks.Add(new IPNetwork(address, address.GetAddressBytes().Length * 8));
            }
            else
            {
                throw new StartupException($"PANDORA_PROXIES: '{entry}' is neither an address nor a range such as 10.1.2.0/24");
            }
        }

        return networks;
    }
}
