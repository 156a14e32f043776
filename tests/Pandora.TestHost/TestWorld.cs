using System.Net;
using System.Security.Cryptography;
using Pandora.Linux;

namespace Pandora.TestHost;

/// <summary>
/// Network namespaces around a host: an internet behind the host's uplink, a cloud's metadata service, a LAN, and a neighbour, each with
/// live listeners. The server and its slots run in the host's namespace, so no test packet leaves through the machine's real uplink. The
/// internet and the uplink have ordinary public addresses, because special-purpose addresses are refused. The machine itself has none of
/// them.
/// </summary>
internal sealed class TestWorld : IAsyncDisposable
{
    public const string InternetAddress = "93.184.0.10", ResolverAddress = "10.77.0.53", NeighbourAddress = "10.77.0.5",
        MetadataAddress = "169.254.169.254", LanAddress = "192.168.77.10", HostLanAddress = "192.168.77.1",
        HostUplinkAddress = "93.183.0.2", GatewayAddress = "93.183.0.1";

    /// <summary>One address of each routable special-purpose range, and special addresses of cloud providers.</summary>
    public static readonly IReadOnlyList<string> SpecialAddresses =
    [
        "168.63.129.16", "192.0.0.10", "192.0.0.192", "192.0.2.7", "192.31.196.7", "192.52.193.7", "192.88.99.1", "192.175.48.7",
        "198.18.0.7", "198.51.100.7", "203.0.113.7", "100.100.100.200", "240.0.0.7",
    ];

    private readonly List<IDisposable> _listeners = [];

    private TestWorld(string id)
    {
        Host = new NetworkNamespace($"pt-{id}-host");
        Internet = new NetworkNamespace($"pt-{id}-net");
        Metadata = new NetworkNamespace($"pt-{id}-meta");
        Lan = new NetworkNamespace($"pt-{id}-lan");
        Neighbour = new NetworkNamespace($"pt-{id}-peer");
    }

    public NetworkNamespace Host { get; }

    public NetworkNamespace Internet { get; }

    public NetworkNamespace Metadata { get; }

    public NetworkNamespace Lan { get; }

    public NetworkNamespace Neighbour { get; }

    private IEnumerable<NetworkNamespace> All => [Host, Internet, Metadata, Lan, Neighbour];

    public static async Task<TestWorld> CreateAsync()
    {
        var world = new TestWorld(RandomNumberGenerator.GetHexString(4, lowercase: true));
        await IpAsync(string.Join('\n', world.All.Select(n => $"netns add {n.Name}")));
        foreach (
            var (place, link, hostAddress, address) in new[]
            {
                (world.Internet, "wan0", $"{HostUplinkAddress}/24", $"{GatewayAddress}/24"),
                (world.Metadata, "meta0", "169.254.169.1/24", $"{MetadataAddress}/24"),
                (world.Lan, "lan0", $"{HostLanAddress}/24", $"{LanAddress}/24"),
                (world.Neighbour, "peer0", "10.77.0.1/24", $"{NeighbourAddress}/24"),
            })
        {
            var gateway = hostAddress.Split('/')[0];
            await InAsync(
                world.Host,
                $"link add {link} mtu 1400 type veth peer name eth0 mtu 1400 netns {place.Name}\naddr add {hostAddress} dev "
                    + $"{link}\nlink set {link} up\nlink set lo up");
            await InAsync(place, $"addr add {address} dev eth0\nlink set eth0 up\nlink set lo up\nroute add default via {gateway}");
        }

        await InAsync(world.Internet, string.Join('\n', SpecialAddresses.Append(InternetAddress).Select(a => $"addr add {a}/32 dev lo")));
        await InAsync(world.Neighbour, $"addr add {ResolverAddress}/24 dev eth0");
        await InAsync(world.Host, $"route add default via {GatewayAddress}");
        await Command.RunAsync("nsenter", [$"--net={world.Host.Path}", "sh", "-c", "echo 0 > /proc/sys/net/ipv4/ip_forward"]);
        return world;
    }

    /// <summary>Starts a TCP listener, which is closed with the world.</summary>
    public Listener Listen(NetworkNamespace place, string address, int port) => With(new Listener(place, IPAddress.Parse(address), port));

    /// <summary>Starts a UDP listener, which is closed with the world.</summary>
    public DatagramListener ListenForDatagrams(
        NetworkNamespace place, string address, int port, Func<byte[], byte[]?>? answer = null) =>
        With(new DatagramListener(place, IPAddress.Parse(address), port, answer));

    /// <summary>Runs commands of ip(8) in a namespace.</summary>
    public static Task<string> InAsync(NetworkNamespace place, string batch) =>
        Command.RunAsync("ip", ["-n", place.Name, "-batch", "-"], batch + "\n");

    /// <summary>Runs nft in a namespace and returns what it prints.</summary>
    public static Task<string> NftAsync(string namespacePath, string commands) =>
        Command.RunAsync("nsenter", [$"--net={namespacePath}", "nft", "-f", "-"], commands + "\n");

    /// <summary>Lists the nftables rules of a namespace.</summary>
    public static Task<string> ListRulesAsync(string namespacePath) =>
        Command.RunAsync("nsenter", [$"--net={namespacePath}", "nft", "list", "ruleset"]);

    public async ValueTask DisposeAsync()
    {
        foreach (var listener in Enumerable.Reverse(_listeners))
        {
            listener.Dispose();
        }

        await IpAsync(string.Join('\n', All.Select(n => $"netns del {n.Name}")));
    }

    private T With<T>(T listener)
        where T : IDisposable
    {
        _listeners.Add(listener);
        return listener;
    }

    private static Task IpAsync(string batch) => Command.RunAsync("ip", ["-batch", "-"], batch + "\n");
}
