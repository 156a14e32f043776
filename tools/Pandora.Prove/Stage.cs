using Pandora.TestHost;

namespace Pandora.Prove;

/// <summary>
/// A test world with listeners on every address and a real server. Guests must not reach the LAN or the neighbour. They may reach one
/// private address.
/// </summary>
internal sealed partial class Stage : IAsyncDisposable
{
    /// <summary>The port of every TCP listener, and the port of the datagram listener on the internet.</summary>
    public const int Port = 7000, DatagramPort = 7001;

    /// <summary>The private address that guests may reach.</summary>
    public const string AllowedAddress = "10.77.0.80";

    private Stage(TestWorld world) => World = world;

    public TestWorld World { get; }

    public ServerProcess Server { get; private set; } = null!;

    /// <summary>The datagrams that arrived at the internet's listener.</summary>
    public DatagramListener Datagrams { get; private set; } = null!;

    /// <summary>Creates the world and starts the server in it.</summary>
    /// <param name="settings">Settings of the server, in addition to those of the stage.</param>
    public static async Task<Stage> CreateAsync(IReadOnlyDictionary<string, string>? settings = null)
    {
        var stage = new Stage(await TestWorld.CreateAsync());
        try
        {
            await stage.PrepareAsync();
            stage.Server = await ServerProcess.StartAsync(
                stage.World,
                new Dictionary<string, string>(settings ?? new Dictionary<string, string>())
                {
                    ["PANDORA_POOL_SIZE"] = "2",
                    // Some checks enter a guest while the server is stopped, and one compares the guests' SSH servers.
                    ["PANDORA_EXEC"] = "ssh",
                    ["PANDORA_EGRESS_ALLOW"] = $"{AllowedAddress}/32",
                });
            return stage;
        }
        catch
        {
            await stage.DisposeAsync();
            throw;
        }
    }

    /// <summary>Stops the server, audits the host, and removes the world.</summary>
    public async ValueTask DisposeAsync()
    {
        try
        {
            if (Server is not null)
            {
                await Server.DisposeAsync();
            }
        }
        finally
        {
            await World.DisposeAsync();
        }
    }

    private async Task PrepareAsync()
    {
        await TestWorld.InAsync(World.Neighbour, $"addr add {AllowedAddress}/24 dev eth0");
        (NetworkNamespace, string)[] places =
        [
            (World.Internet, TestWorld.InternetAddress),
            (World.Metadata, TestWorld.MetadataAddress),
            (World.Lan, TestWorld.LanAddress),
            (World.Neighbour, TestWorld.NeighbourAddress),
            (World.Neighbour, AllowedAddress),
            (World.Host, "0.0.0.0"),
            (World.Internet, TestWorld.GatewayAddress),
            .. TestWorld.SpecialAddresses.Select(a => (World.Internet, a)),
        ];
        foreach (var (place, address) in places)
        {
            World.Listen(place, address, Port);
        }

        Datagrams = World.ListenForDatagrams(World.Internet, TestWorld.InternetAddress, DatagramPort);
        World.ListenForDatagrams(World.Neighbour, TestWorld.ResolverAddress, 53, Resolver.Answer);
        World.ListenForDatagrams(World.Host, "127.0.0.1", 5353, Resolver.Answer);
    }
}
