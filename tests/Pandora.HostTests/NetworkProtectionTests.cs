using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.Prove.Checks;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>
/// The network rules that confine guests: the server watches and repairs them, and serves no claim while they are incomplete. <see
/// cref="IsolationTests"/> tests what the rules refuse.
/// </summary>
public sealed class NetworkProtectionTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task While_another_program_keeps_deleting_the_table_claims_are_refused_and_health_says_why()
    {
        await using var server = await StartAsync();
        await using var sandbox = await server.Pandora.CreateAsync();
        var refused = new List<HttpResponseMessage>();
        // The pause before the next repair doubles: it must be long enough for all that is asked during it.
        await UntilAsync(async () =>
        {
            await DeleteTableAsync(server);
            return server.Log.Contains("written again in 8 s", StringComparison.Ordinal);
        });
        var end = TimeProvider.System.GetTimestamp();
        while (TimeProvider.System.GetElapsedTime(end) < TimeSpan.FromSeconds(60) && refused.Count == 0)
        {
            await DeleteTableAsync(server);
            var response = await server.Http.PostAsync(new Uri("/sandboxes", UriKind.Relative), null);
            if (response.StatusCode == HttpStatusCode.ServiceUnavailable)
            {
                refused.Add(response);
            }
        }

        var answer = Assert.Single(refused);
        Assert.Contains("not_protected", await answer.Content.ReadAsStringAsync());
        Assert.NotNull(answer.Headers.RetryAfter);
        var health = await server.Pandora.GetHealthAsync();
        Assert.Equal("not_protected", health.Status);
        using var ready = await server.Http.GetAsync(new Uri("/ready", UriKind.Relative));
        Assert.Equal(HttpStatusCode.ServiceUnavailable, ready.StatusCode);
        Assert.Contains(health.Notes, n => n.Contains("again and again", StringComparison.Ordinal));
        Assert.Matches(@"pandora_protected\{[^}]*\} 0\b", await server.Pandora.GetMetricsAsync());
        // A running sandbox still works, because its namespace has rules too.
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);

        await UntilAsync(async () => (await server.Pandora.GetHealthAsync()).Status == "ok");
        Assert.Matches(@"pandora_protection_repairs_total\{[^}]*what=""host_table""[^}]*\} [1-9]", await server.Pandora.GetMetricsAsync());
        await (await server.Pandora.CreateAsync()).DisposeAsync();
    }

    [Fact]
    public async Task Host_rules_slot_rules_forwarding_and_accept_rules_in_a_new_firewall_are_repaired()
    {
        using var internet = _world.Listen(_world.Internet, TestWorld.InternetAddress, 7000);
        using var lan = _world.Listen(_world.Lan, TestWorld.LanAddress, 7000);
        await using var server = await StartAsync();
        await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        var slot = $"/run/netns/pnd-{server.Instance}-{sandbox.Wire!.SlotId}";

        // A restart of nftables flushes the ruleset. Then a firewall starts that forwards nothing.
        await TestWorld.NftAsync(_world.Host.Path,
            "flush ruleset\nadd table inet other\nadd chain inet other forward { type filter hook forward priority 0; policy drop; }");
        await UntilAsync(async () => (await TestWorld.ListRulesAsync(_world.Host.Path))
            .Contains($"comment \"pandora-{server.Instance}\"", StringComparison.Ordinal));
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.LanAddress);
        await TestWorld.NftAsync(_world.Host.Path, "delete table inet other");

        await TestWorld.NftAsync(slot, "flush ruleset");
        await UntilAsync(async () => (await TestWorld.ListRulesAsync(slot)).Contains("chain from_guest", StringComparison.Ordinal));
        await Reachability.MustBeRefusedAsync(sandbox, TestWorld.LanAddress);
        await Reachability.MustReachAsync(sandbox, TestWorld.InternetAddress);

        await Command.RunAsync(
            "nsenter",
            [
                $"--net={_world.Host.Path}",
                "sh",
                "-c",
                "echo 0 > /proc/sys/net/ipv4/conf/wan0/forwarding; echo 0 > "
                    + $"/proc/sys/net/ipv4/conf/pnd{server.Instance}v{sandbox.Wire!.SlotId}/forwarding",
            ]);
        await UntilAsync(async () => (await sandbox.ExecAsync(Reachability.Connect(TestWorld.InternetAddress))).Stdout == "hello");
        var metrics = await server.Pandora.GetMetricsAsync();
        Assert.All(new[] { "host_table", "slot_rules", "forwarding", "foreign_accept" },
            what => Assert.Matches($@"pandora_protection_repairs_total\{{[^}}]*what=""{what}""[^}}]*\}} [1-9]", metrics));
    }

    [Fact]
    public async Task A_claim_repairs_a_slots_rules_that_another_program_changed()
    {
        await using var server = await StartAsync(new() { ["PANDORA_EGRESS"] = "internet" });
        await server.WaitForWarmAsync(1);
        // Several rounds, because the periodic watch may repair the rules before a claim does.
        for (var i = 0; i < 3; i++)
        {
            await server.WaitForWarmAsync(1);
            foreach (var slot in Directory.GetFiles("/run/netns", $"pnd-{server.Instance}-*"))
            {
                await TestWorld.NftAsync(slot, "flush set inet slot forbidden");
            }

            await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "none" });
            Assert.Contains("169.254.0.0/16", await TestWorld.ListRulesAsync($"/run/netns/pnd-{server.Instance}-{sandbox.Wire!.SlotId}"));
        }

        await UntilAsync(async () => System.Text.RegularExpressions.Regex.IsMatch(await server.Pandora.GetMetricsAsync(),
            @"pandora_protection_repairs_total\{[^}]*what=""slot_rules""[^}]*\} [1-9]"));
    }

    [Fact]
    public async Task A_network_that_the_host_joins_is_refused_from_then_on_and_a_denied_network_always()
    {
        const string Public = "94.1.2.3", Denied = "95.1.2.3";
        await TestWorld.InAsync(_world.Internet, $"addr add {Public}/32 dev lo\naddr add {Denied}/32 dev lo");
        _world.Listen(_world.Internet, Public, 7000);
        _world.Listen(_world.Internet, Denied, 7000);
        await using var server = await StartAsync(new() { ["PANDORA_EGRESS_DENY"] = "95.1.0.0/16" });
        await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await Reachability.MustReachAsync(sandbox, Public);
        await Reachability.MustBeRefusedAsync(sandbox, Denied);
        await TestWorld.InAsync(_world.Host, "addr add 94.1.2.1/24 dev wan0");
        await UntilAsync(async () => (await sandbox.ExecAsync(Reachability.Connect(Public))).Stdout.Length == 0);
        await Reachability.MustBeRefusedAsync(sandbox, Public);
        await Reachability.MustBeRefusedAsync(sandbox, "94.1.2.1");
        await TestWorld.InAsync(_world.Host, "addr del 94.1.2.1/24 dev wan0");
        await UntilAsync(async () => (await sandbox.ExecAsync(Reachability.Connect(Public))).Stdout == "hello");
    }

    [Fact]
    public async Task Guests_of_an_earlier_version_get_the_current_rules_and_a_lower_ceiling_closes_open_connections()
    {
        using var internet = _world.Listen(_world.Internet, TestWorld.InternetAddress, 7000);
        await using var server = await StartAsync(poolSize: 0);
        var (open, closed) = (
            await server.Pandora.CreateAsync(), await server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "none" }));
        await server.KillAsync();
        // The namespaces of version 0.1 had no rules that refuse: all of those were on the host.
        foreach (var sandbox in new[] { open, closed })
        {
            await TestWorld.NftAsync($"/run/netns/pnd-{server.Instance}-{sandbox.Wire!.SlotId}", """
                flush ruleset
                table inet slot {
                  chain prerouting { type nat hook prerouting priority dstnat; policy accept; iifname "up0" dnat ip to 172.16.0.2; }
                  chain forward { type filter hook forward priority 0; policy accept; }
                  chain postrouting { type nat hook postrouting priority srcnat; policy accept; oifname "up0" masquerade; }
                }
                """);
        }

        await server.StartAsync();
        await Reachability.MustReachAsync(open, TestWorld.InternetAddress);
        await Reachability.MustBeRefusedAsync(closed, TestWorld.InternetAddress);
        // A connection in constant use is closed too.
        using var peer = new KeepingListener(_world.Internet, IPAddress.Parse(TestWorld.InternetAddress), 7001);
        await open.ExecAsync($"""
            nohup python3 -c "
            import socket, time
            s = socket.create_connection(('{TestWorld.InternetAddress}', 7001))
            open('/root/held', 'w').write('open')
            while True:
                try: s.send(b'x'); time.sleep(0.05)
                except OSError: break
            open('/root/held', 'w').write('cut')
            " > /dev/null 2>&1 &
            """);
        async Task<string> HeldAsync() => (await open.ExecAsync("cat /root/held")).Stdout;
        await UntilAsync(async () => await HeldAsync() == "open");
        await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System);
        Assert.Equal("open", await HeldAsync());
        await server.KillAsync();
        server.Set("PANDORA_EGRESS", "none");
        await server.StartAsync();
        await Reachability.MustBeRefusedAsync(open, TestWorld.InternetAddress);
        await UntilAsync(async () => await HeldAsync() == "cut");
        Assert.Equal("none", (await server.Pandora.GetAsync(open.Id)).Egress);
        Assert.Equal(
            HttpStatusCode.Forbidden,
            (HttpStatusCode)
                (
                    await Assert.ThrowsAnyAsync<PandoraApiException>(() =>
                        server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "internet" })
                    )).Status!);
    }

    [Fact]
    public async Task A_guest_holds_only_its_share_of_connections_and_neighbours_and_releases_them_at_its_end()
    {
        using var listener = new KeepingListener(_world.Internet, IPAddress.Parse(TestWorld.InternetAddress), 7000);
        var max = long.Parse(await InHostAsync("cat /proc/sys/net/netfilter/nf_conntrack_max"));
        // So many sandboxes that the share of each is small, and a guest reaches it quickly.
        var sandboxes = (int)Math.Clamp((max / 4 / 64) - 4, 2, 4096);
        var share = max / 4 / (sandboxes + 1 + Environment.ProcessorCount + 2);
        await using var server = await StartAsync(new() { ["PANDORA_MAX_SANDBOXES"] = $"{sandboxes}" });
        var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        var result = await sandbox.ExecAsync($"""
            ulimit -n 4096; python3 -c "
            import socket
            held = []
            for i in range({share + 60}):
                s = socket.socket()
                s.settimeout(5)
                try:
                    s.connect(('{TestWorld.InternetAddress}', 7000)); held.append(s)
                except OSError: pass
            print(len(held))
            "
            """, new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        Assert.InRange(int.Parse(result.Stdout.Trim()), share / 2, share + 8);
        var entries = await TrackedAsync(sandbox.Wire!.GuestIp);
        Assert.NotEmpty(entries);
        // The fields of an entry: two for the network protocol, two for the transport protocol, then the seconds until it expires.
        Assert.All(entries, e => Assert.InRange(int.Parse(e.Split(' ', StringSplitOptions.RemoveEmptyEntries)[4]), 0, 3600));

        // ARP requests from many sender addresses: the kernel has one neighbour table for all namespaces.
        var slot = $"/run/netns/pnd-{server.Instance}-{sandbox.Wire!.SlotId}";
        await sandbox.ExecAsync("""
            python3 -c "
            import socket, struct
            s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
            mac = bytes.fromhex('02fc00000002')
            for i in range(300):
                sender = bytes([172, 16, i // 250 + 1, i % 250 + 1])
                s.send(b'\xff' * 6 + mac + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x0800, 6, 4, 1)
                    + mac + sender + bytes(6) + bytes([172, 16, 0, 1]))
            "
            """);
        var neighbours = await Command.RunAsync("nsenter", [$"--net={slot}", "ip", "neigh"]);
        Assert.InRange(neighbours.Split('\n', StringSplitOptions.RemoveEmptyEntries).Length, 1, 3);

        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
        Assert.Empty(await TrackedAsync(sandbox.Wire!.GuestIp));
    }

    private async Task<List<string>> TrackedAsync(string address) =>
        [.. (await InHostAsync("cat /proc/net/nf_conntrack")).Split('\n').Where(l => l.Contains($"={address} ", StringComparison.Ordinal))];

    private Task<string> InHostAsync(string code) => Command.RunAsync("nsenter", [$"--net={_world.Host.Path}", "sh", "-c", code]);

    private Task DeleteTableAsync(ServerProcess server) =>
        TestWorld.NftAsync(_world.Host.Path, $"table inet pandora_{server.Instance}\ndelete table inet pandora_{server.Instance}");

    private Task<ServerProcess> StartAsync(Dictionary<string, string>? settings = null, int poolSize = 1) =>
        ServerProcess.StartAsync(_world, new Dictionary<string, string>(settings ?? []) { ["PANDORA_POOL_SIZE"] = $"{poolSize}" });

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }

    /// <summary>A server that accepts connections and keeps them open.</summary>
    private sealed class KeepingListener : IDisposable
    {
        private readonly List<Socket> _kept = [];
        private readonly Socket _socket;

        public KeepingListener(NetworkNamespace place, IPAddress address, int port)
        {
            _socket = place.Run(() =>
            {
                var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
                socket.Bind(new IPEndPoint(address, port));
                socket.Listen(1024);
                return socket;
            });
            _ = AcceptAsync();
        }

        public void Dispose()
        {
            _socket.Dispose();
            _kept.ForEach(k => k.Dispose());
        }

        private async Task AcceptAsync()
        {
            try
            {
                while (true)
                {
                    _kept.Add(await _socket.AcceptAsync());
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // Closed.
            }
        }
    }
}
