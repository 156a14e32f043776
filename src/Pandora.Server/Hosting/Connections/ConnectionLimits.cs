using System.Net;
using System.Net.Sockets;
using Pandora.Engine;

namespace Pandora.Server.Hosting.Connections;

/// <summary>Bounds of the connections to all addresses of this server together.</summary>
/// <param name="Total">Largest number of open connections.</param>
/// <param name="PerAddress">Largest number of open connections from one address, or from one /64 of IPv6.</param>
/// <param name="IsExempt">Whether an address is exempt from <paramref name="PerAddress"/>.</param>
internal sealed record ConnectionLimits(int Total, int PerAddress, Func<IPAddress, bool> IsExempt)
{
    /// <summary>Descriptors that no connection may use, whatever the settings: a shortage is noticed before they run out.</summary>
    public const int Margin = 64;

    // The runtime holds two for each assembly, 240 together. The rest is for the pipes of child processes and the margin.
    private const int Fixed = 320;
    // Descriptors for one microVM, counted on a server with warm and busy microVMs.
    private const int PerMicroVm = 8;
    private const int Fewest = 64, Most = 8192;

    /// <summary>Time from the opening to the first byte.</summary>
    public TimeSpan FirstByte { get; init; } = TimeSpan.FromSeconds(5);

    /// <summary>Time from the opening to the end of a request's headers, and from a refused request to the next one.</summary>
    public TimeSpan Headers { get; init; } = TimeSpan.FromSeconds(10);

    /// <summary>Number of descriptors by which the limit is too low for the settings.</summary>
    public int Missing { get; init; }

    /// <summary>Computes the bounds from the settings and the limit of descriptors.</summary>
    /// <exception cref="StartupException">A setting is invalid, or too high for the limit of descriptors.</exception>
    public static ConnectionLimits From(EngineOptions engine, ServerOptions server, int descriptors)
    {
        var reserve = ReserveOf(engine);
        if (server.MaxConnections > Math.Max(descriptors - reserve, Fewest))
        {
            throw new StartupException(
                $"PANDORA_MAX_CONNECTIONS={server.MaxConnections} is too high for the limit of descriptors: the limit is {descriptors} "
                    + $"(ulimit -n, LimitNOFILE=), and {reserve} are reserved for microVMs. Lower the setting, or raise the limit");
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

    /// <summary>Descriptors that are reserved for the largest number of microVMs at once, and for the server itself.</summary>
    internal static int ReserveOf(EngineOptions engine)
    {
        var warm = engine.PooledTemplates.Sum(engine.PoolSizeFor);
        return Fixed + (PerMicroVm * (engine.MaxSandboxes + warm));
    }

    /// <summary>The source by which connections are counted: the address, or for IPv6 the /64, since one host can use all of it.</summary>
    internal static IPAddress SourceOf(IPAddress address)
    {
        // A listener of both families sees IPv4 addresses in the form of IPv6.
        if (address.IsIPv4MappedToIPv6)
        {
            return address.MapToIPv4();
        }

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
