using System.Text.Json.Nodes;
using Pandora.Client;
using Pandora.Engine;
using Pandora.Engine.Networking;
using Pandora.HostTests.World;
using Pandora.Prove.Checks;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Ranges in a sandbox's egress, as the kernel enforces them. The HTTP API sets none: each test writes them into the record of a
/// sandbox whose server is dead, and the next server reads them.</summary>
public sealed class EgressRangesTests : IAsyncLifetime
{
    private const string Other = "94.1.2.3", All = "0.0.0.0/0";
    private const int Port = 7000, Echoes = 9002;

    // Exchanges a line every 50 ms, and says when the connection ends.
    private const string Exchange = """
        rm -f /run/cut; setsid bash -c 'exec 3<> /dev/tcp/93.184.0.10/9002
        while echo x >&3 && read -t 5 <&3; do sleep 0.05; done; touch /run/cut' > /dev/null 2>&1 &
        """;

    private TestWorld _world = null!;
    private ServerProcess _server = null!;
    private EchoServer _echo = null!;

    public async ValueTask InitializeAsync()
    {
        _world = await TestWorld.CreateAsync();
        await TestWorld.InAsync(_world.Internet, $"addr add {Other}/32 dev lo");
        _world.Listen(_world.Internet, TestWorld.InternetAddress, Port);
        _world.Listen(_world.Internet, Other, Port);
        _world.Listen(_world.Lan, TestWorld.LanAddress, Port);
        _world.Listen(_world.Metadata, TestWorld.MetadataAddress, Port);
        _world.Listen(_world.Host, TestWorld.HostLanAddress, Port);
        _world.ListenForDatagrams(_world.Neighbour, TestWorld.ResolverAddress, 53, bytes => bytes);
        _echo = new EchoServer(_world.Internet, TestWorld.InternetAddress, Echoes);
        _server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" });
    }

    public async ValueTask DisposeAsync()
    {
        _echo.Dispose();
        try
        {
            await _server.DisposeAsync();
        }
        finally
        {
            await _world.DisposeAsync();
        }
    }

    [Fact]
    public async Task A_guest_reaches_what_its_ranges_allow_and_nothing_that_the_server_refuses()
    {
        var sandbox = await _server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        await RestartAsync(sandbox, Egress.None, [TestWorld.InternetAddress, "192.168.77.0/24", "169.254.0.0/16"], [All]);
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        foreach (var refused in new[] { Other, TestWorld.LanAddress, TestWorld.MetadataAddress, TestWorld.HostLanAddress })
        {
            await Reachability.MustBeRefusedAsync(sandbox, refused);
        }

        Assert.False(await ResolvesAsync(sandbox));
        Assert.Equal("none", (await sandbox.GetAsync()).Egress);

        // The control: once the operator allows the LAN, the same ranges reach the LAN's hosts, and the host as little as before.
        _server.Set("PANDORA_EGRESS_ALLOW", "192.168.77.0/24");
        await RestartAsync(sandbox, Egress.None, [TestWorld.InternetAddress, "192.168.77.0/24"], []);
        await Reachability.MustReachAsync(sandbox, TestWorld.LanAddress);
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.HostLanAddress);

        await RestartAsync(sandbox, Egress.None, [TestWorld.ResolverAddress], []);
        Assert.True(await ResolvesAsync(sandbox));
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task A_denied_range_is_refused_unless_allowed_and_what_is_open_to_it_is_cut()
    {
        var sandbox = await _server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        await sandbox.ExecAsync(Exchange);
        await FlowsAsync();
        // An allowed connection outlives the server, and the resolver is no destination that a client denies.
        await RestartAsync(sandbox, Egress.Internet, [TestWorld.InternetAddress], ["93.184.0.0/16", "94.0.0.0/8", "10.0.0.0/8"]);
        await FlowsAsync();
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        await Reachability.MustBeRefusedAsync(sandbox, Other);
        Assert.True(await ResolvesAsync(sandbox));

        await RestartAsync(sandbox, Egress.Internet, [], ["93.184.0.0/16"]);
        await IsCutAsync(sandbox);
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.InternetAddress);
        await Reachability.MustReachAsync(sandbox, Other);

        // Without a restart: the change removes the ranges from the living slot.
        Assert.Equal("internet", (await sandbox.SetEgressAsync("internet")).Egress);
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        await RestartAsync(sandbox, Egress.None, [TestWorld.InternetAddress], []);
        await sandbox.ExecAsync(Exchange);
        await FlowsAsync();
        await sandbox.SetEgressAsync("none");
        await IsCutAsync(sandbox);
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.InternetAddress);

        var slot = SlotOf(sandbox);
        await RestartAsync(sandbox, Egress.None, ["8.8.8.8"], [TestWorld.InternetAddress]);
        Assert.Contains("8.8.8.8", await TestWorld.ListRulesAsync(slot));
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
        Assert.False(File.Exists(slot));
        await using var next = await _server.Pandora.CreateAsync();
        await Reachability.MustReachAsync(next, TestWorld.InternetAddress);
        Assert.DoesNotContain("8.8.8.8", await TestWorld.ListRulesAsync(SlotOf(next)));
    }

    [Fact]
    public async Task Each_change_leaves_the_rules_that_a_new_slot_would_have()
    {
        var policy = new NetworkPolicy
        {
            Range = Parse("10.200.0.0/16"),
            Resolver = System.Net.IPAddress.Parse("10.1.1.1"),
            Allowed = [],
            Denied = [],
            Host = new HostAddresses([Parse("51.0.0.2")], [Parse("51.0.0.0/24")]),
            Bounds = ConnectionBounds.For(262144, 70),
            Mark = 7,
        };
        var slot = new NetworkSlot(
            0, _world.Lan.Name, "if", System.Net.IPAddress.Parse("10.200.0.1"), System.Net.IPAddress.Parse("10.200.0.2"));
        var (internet, none) = (new EgressPolicy(Egress.Internet), new EgressPolicy(Egress.None));
        EgressPolicy[] policies =
        [
            internet, none, none with { Allow = [Parse("8.8.8.8")] }, none with { Allow = [Parse("8.8.0.0/16"), Parse("8.8.8.8")] },
            internet with { Deny = [Parse(All), Parse("9.0.0.0/8")], Allow = [Parse("9.9.9.9")] },
            internet with { Deny = [Parse("8.0.0.0/8"), Parse("9.0.0.0/8")] },
            internet with { Deny = [.. Enumerable.Range(0, EgressPolicy.MostRanges).Select(i => Ipv4Network.Of((uint)i << 24, 16))] },
        ];
        foreach (var (before, after) in policies.SelectMany(b => policies.Where(a => a != b).Select(a => (b, a))))
        {
            await TestWorld.NftAsync(_world.Lan.Path, SlotRules.Text(slot, policy, before) + SlotRules.EgressText(before, after));
            var changed = await TestWorld.ListRulesAsync(_world.Lan.Path);
            await TestWorld.NftAsync(_world.Lan.Path, SlotRules.Text(slot, policy, before));
            await TestWorld.NftAsync(_world.Lan.Path, SlotRules.EgressText(before, after));
            Assert.Equal(changed, await TestWorld.ListRulesAsync(_world.Lan.Path));
            await TestWorld.NftAsync(_world.Lan.Path, SlotRules.Text(slot, policy, after));
            Assert.Equal(changed, await TestWorld.ListRulesAsync(_world.Lan.Path));
        }
    }

    private async Task RestartAsync(Sandbox sandbox, Egress byDefault, string[] allow, string[] deny)
    {
        await _server.KillAsync();
        var path = Path.Combine(_server.RunDir, _server.Instance, sandbox.Id, "record.json");
        var record = JsonNode.Parse(await File.ReadAllTextAsync(path))!;
        record["claim"]!["egress"] = $"{byDefault}";
        record["claim"]!["egress_allow"] = new JsonArray([.. allow.Select(a => JsonValue.Create(a))]);
        record["claim"]!["egress_deny"] = new JsonArray([.. deny.Select(d => JsonValue.Create(d))]);
        await File.WriteAllTextAsync(path, record.ToJsonString());
        await _server.StartAsync();
    }

    // Asks the guest's resolver, which sends back what it gets.
    private static async Task<bool> ResolvesAsync(Sandbox sandbox) =>
        (await sandbox.ExecAsync("exec 3<> /dev/udp/172.16.0.1/53; echo hello >&3; timeout 20 head -c 6 <&3")).Stdout == "hello\n";

    private Task FlowsAsync()
    {
        var before = _echo.Bytes;
        return UntilAsync(() => Task.FromResult(_echo.Bytes > before + 10));
    }

    private static Task IsCutAsync(Sandbox sandbox) =>
        UntilAsync(async () => (await sandbox.ExecAsync("test -e /run/cut")).ExitCode == 0);

    private static async Task UntilAsync(Func<Task<bool>> isSo)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
        while (!await isSo())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }
    }

    private string SlotOf(Sandbox sandbox) => $"/run/netns/pnd-{_server.Instance}-{sandbox.Wire!.SlotId}";

    private static Ipv4Network Parse(string text) =>
        Ipv4Network.TryParse(text, out var network) ? network : throw new FormatException(text);
}
