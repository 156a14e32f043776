using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.HostTests.World;

namespace Pandora.HostTests;

/// <summary>The world of <see cref="IsolationTests"/>: its LAN and neighbour may not be reached, one private address is allowed, and everything listens.</summary>
public sealed class IsolationFixture : ServerFixture
{
    internal const int Port = 7000;

    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_EGRESS_ALLOW"] = "10.77.0.80/32" };

    internal Dictionary<string, Listener> Listeners { get; } = [];

    internal DatagramListener Datagrams { get; private set; } = null!;

    internal override async Task PrepareAsync()
    {
        await TestWorld.InAsync(World.Neighbour, "addr add 10.77.0.80/24 dev eth0");
        foreach (var (place, address) in new[]
        {
            (World.Internet, TestWorld.InternetAddress), (World.Metadata, TestWorld.MetadataAddress), (World.Lan, TestWorld.LanAddress),
            (World.Neighbour, TestWorld.NeighbourAddress), (World.Neighbour, "10.77.0.80"), (World.Host, "0.0.0.0"),
        })
        {
            Listeners[address] = World.Listen(place, address, Port);
        }

        Datagrams = World.With(new DatagramListener(World.Internet, IPAddress.Parse(TestWorld.InternetAddress), 7001));
        World.With(new DatagramListener(World.Neighbour, IPAddress.Parse(TestWorld.ResolverAddress), 53, Resolver.Answer));
        World.With(new DatagramListener(World.Host, IPAddress.Loopback, 5353, Resolver.Answer));
    }
}

/// <summary>Every line of what a guest may and may not reach, from inside a guest, against live listeners. Each refusal is shown to be the rule's doing by taking the rule away.</summary>
public sealed class IsolationTests(IsolationFixture fixture) : IClassFixture<IsolationFixture>, IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    private string Table => $"inet pandora_{fixture.Server.Instance}";

    private string SlotNamespace => $"/run/netns/pnd-{fixture.Server.Instance}-{_sandbox.Created.SlotId}";

    public async ValueTask InitializeAsync() => _sandbox = await fixture.Server.Pandora.CreateAsync(TimeSpan.FromSeconds(300));

    public ValueTask DisposeAsync() => _sandbox.DisposeAsync();

    [Fact]
    public async Task The_internet_is_reached_by_name()
    {
        Assert.Equal("hello", await ConnectAsync(_sandbox, "some.name.example"));
        Assert.Equal("hello", await ConnectAsync(_sandbox, TestWorld.InternetAddress));
    }

    public static TheoryData<string, string> Forbidden => new()
    {
        { TestWorld.MetadataAddress, "from_guest" },
        { TestWorld.LanAddress, "from_guest" },
        { TestWorld.NeighbourAddress, "from_guest" },
        { TestWorld.HostUplinkAddress, "to_host" },
        { TestWorld.HostLanAddress, "to_host" },
        { "169.254.169.1", "to_host" },
        { "slot", "to_host" },
    };

    [Theory]
    [MemberData(nameof(Forbidden))]
    public async Task What_is_private_is_refused_at_once_and_only_by_our_rule(string address, string chain)
    {
        // The host's own end of this sandbox's slot is one below the guest's address.
        address = address == "slot" ? string.Join('.', _sandbox.Created.GuestIp.Split('.')[..3]) + "." + (int.Parse(_sandbox.Created.GuestIp.Split('.')[3]) - 1) : address;
        await AssertRefusedAsync(address);
        await WithoutAsync(fixture.World.Host.Path, $"{Table} {chain}", async () => Assert.Equal("hello", await ConnectAsync(_sandbox, address)));
    }

    [Fact]
    public async Task The_gateway_offers_nothing()
    {
        using var listener = new Listener(new NetworkNamespace(Path.GetFileName(SlotNamespace)), IPAddress.Any, IsolationFixture.Port);
        await AssertRefusedAsync("172.16.0.1");
        await WithoutAsync(SlotNamespace, "inet slot input", async () => Assert.Equal("hello", await ConnectAsync(_sandbox, "172.16.0.1")));
    }

    [Fact]
    public async Task Another_sandbox_is_not_reached()
    {
        await using var other = await fixture.Server.Pandora.CreateAsync(TimeSpan.FromSeconds(300));
        await other.ExecAsync("python3 -c \"\nimport socket, threading\ns = socket.create_server(('0.0.0.0', 7000))\nwhile True:\n    c, _ = s.accept(); c.send(b'hello'); c.close()\n\" > /dev/null 2>&1 &");
        Assert.Equal("hello", await WaitForHelloAsync(other, "127.0.0.1"));
        await AssertRefusedAsync(other.Created.GuestIp);
        await WithoutAsync(fixture.World.Host.Path, $"{Table} from_guest", () => WithoutAsync(fixture.World.Host.Path, $"{Table} to_guest", async () =>
            Assert.Equal("hello", await ConnectAsync(_sandbox, other.Created.GuestIp))));
    }

    [Fact]
    public async Task What_is_allowed_by_setting_is_reached() => Assert.Equal("hello", await ConnectAsync(_sandbox, "10.77.0.80"));

    [Fact]
    public async Task Nobody_reaches_a_guest_unasked()
    {
        await _sandbox.ExecAsync("python3 -c \"\nimport socket\ns = socket.create_server(('0.0.0.0', 7000))\nwhile True:\n    c, _ = s.accept(); c.send(b'hello'); c.close()\n\" > /dev/null 2>&1 &");
        Assert.Equal("hello", await WaitForHelloAsync(_sandbox, "127.0.0.1"));
        Assert.False(await CanConnectAsync(fixture.World.Neighbour, _sandbox.Created.GuestIp));
        // Forwarding of what comes in by that interface was off, too: with it on, it is our rule that refuses.
        await SysctlAsync("peer0", 1);
        Assert.False(await CanConnectAsync(fixture.World.Neighbour, _sandbox.Created.GuestIp));
        await WithoutAsync(fixture.World.Host.Path, $"{Table} to_guest", async () => Assert.True(await CanConnectAsync(fixture.World.Neighbour, _sandbox.Created.GuestIp)));
    }

    [Fact]
    public async Task A_spoofed_source_is_dropped()
    {
        const string Send = "ip addr add 172.16.0.77/32 dev eth0 2>/dev/null; python3 -c \"import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('172.16.0.77', 0)); [s.sendto(b'x', ('203.0.113.10', 7001)) for _ in range(3)]\"; sleep 0.5";
        Assert.Equal(0, (await _sandbox.ExecAsync(Send)).ExitCode);
        Assert.Empty(fixture.Datagrams.Senders);
        await WithoutAsync(SlotNamespace, "inet slot spoofed", async () =>
        {
            Assert.Equal(0, (await _sandbox.ExecAsync(Send)).ExitCode);
            Assert.NotEmpty(fixture.Datagrams.Senders);
        });
        fixture.Datagrams.Senders.Clear();
    }

    [Fact]
    public async Task There_is_no_ipv6()
    {
        var place = new NetworkNamespace(Path.GetFileName(SlotNamespace));
        const string Send = "python3 -c \"import socket; s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM); i = socket.if_nametoindex('eth0'); [s.sendto(b'x', ('ff02::1', 7002, 0, i)) for _ in range(3)]\" 2>&1; sleep 0.5";
        await _sandbox.ExecAsync(Send);
        var isOff = place.Run(() => File.ReadAllText("/proc/thread-self/net/if_inet6").Trim());
        Assert.Equal("", isOff);
        // With IPv6 and without our rule, the same packet arrives.
        await Pandora.Vmm.Linux.Command.RunAsync("nsenter", [$"--net={SlotNamespace}", "sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/all/disable_ipv6; echo 0 > /proc/sys/net/ipv6/conf/tap0/disable_ipv6"]);
        using var listener = new DatagramListener(place, IPAddress.IPv6Any, 7002);
        await _sandbox.ExecAsync(Send);
        Assert.Empty(listener.Senders);
        await WithoutAsync(SlotNamespace, "inet slot spoofed", () => WithoutAsync(SlotNamespace, "inet slot input", async () =>
        {
            await _sandbox.ExecAsync($"sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; {Send}");
            Assert.NotEmpty(listener.Senders);
        }));
    }

    [Fact]
    public async Task Egress_none_reaches_nothing_not_even_names_and_others_are_not_touched()
    {
        await using var closed = await fixture.Server.Pandora.CreateAsync(TimeSpan.FromSeconds(300), egress: "none");
        await AssertRefusedAsync(TestWorld.InternetAddress, closed);
        await AssertRefusedAsync("10.77.0.80", closed);
        Assert.NotEqual(0, (await closed.ExecAsync("timeout 8 python3 -c \"import socket; socket.gethostbyname('some.name.example')\" 2> /dev/null")).ExitCode);
        Assert.Equal("hello", await ConnectAsync(_sandbox, TestWorld.InternetAddress));
        await WithoutAsync(fixture.World.Host.Path, $"{Table} from_guest", async () => Assert.Equal("hello", await ConnectAsync(closed, TestWorld.InternetAddress)));
    }

    [Fact]
    public async Task A_package_is_installed_from_a_mirror_over_the_network()
    {
        // The original's example, from a mirror in this world: what the real one serves was fetched by the host's own apt.
        var mirror = Directory.CreateTempSubdirectory("pandora-mirror-");
        try
        {
            await Pandora.Vmm.Linux.Command.RunAsync("sh", ["-ec", "cd \"$1\"; apt-get -q -o APT::Sandbox::User=root download cowsay libtext-charwidth-perl; for f in *.deb; do dpkg-deb -f \"$f\"; printf 'Filename: ./%s\\nSize: %s\\nSHA256: %s\\n\\n' \"$f\" \"$(stat -c %s \"$f\")\" \"$(sha256sum \"$f\" | cut -d' ' -f1)\"; done > Packages", "mirror", mirror.FullName]);
            using var server = new FileServer(fixture.World.Internet, IPAddress.Parse(TestWorld.InternetAddress), 80, mirror.FullName);
            var result = await _sandbox.ExecAsync(
                "echo 'deb [trusted=yes] http://mirror.example/ ./' > /etc/apt/sources.list && apt-get update -q && apt-get install -q -y cowsay && /usr/games/cowsay moo", timeout: TimeSpan.FromSeconds(200));
            Assert.True(result.ExitCode == 0, result.Stdout + result.Stderr);
            Assert.Contains("< moo >", result.Stdout);
        }
        finally
        {
            mirror.Delete(recursive: true);
        }
    }

    [Fact]
    public async Task The_guest_has_the_uplinks_mtu() => Assert.Equal("1400\n", (await _sandbox.ExecAsync("cat /sys/class/net/eth0/mtu")).Stdout);

    private static async Task<string> ConnectAsync(Sandbox sandbox, string address)
    {
        var result = await sandbox.ExecAsync($"timeout 8 bash -c 'exec 3<> /dev/tcp/{address}/{IsolationFixture.Port} && head -c 5 <&3'");
        return result.Stdout.Length > 0 ? result.Stdout : $"exit code {result.ExitCode}: {result.Stderr}";
    }

    private static async Task<string> WaitForHelloAsync(Sandbox sandbox, string address)
    {
        var answer = "";
        for (var i = 0; i < 20 && answer != "hello"; i++)
        {
            answer = await ConnectAsync(sandbox, address);
        }

        return answer;
    }

    private async Task AssertRefusedAsync(string address, Sandbox? sandbox = null)
    {
        var result = await (sandbox ?? _sandbox).ExecAsync($"s=$EPOCHREALTIME; exec 3<> /dev/tcp/{address}/{IsolationFixture.Port}; c=$?; echo $c $(( (${{EPOCHREALTIME/./}} - ${{s/./}}) / 1000 ))");
        var words = result.Stdout.Split(' ');
        Assert.Equal("1", words[0]);
        // The kernel would give up by itself after two minutes; an ICMP refusal comes at once, however slow the guest.
        Assert.True(int.Parse(words[1]) < 2500, $"it took {words[1].Trim()} ms to be refused: {result.Stderr}");
    }

    private static async Task<bool> CanConnectAsync(NetworkNamespace from, string address)
    {
        using var socket = from.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(3));
        try
        {
            await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(address), IsolationFixture.Port), limit.Token);
            return true;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            return false;
        }
    }

    private Task SysctlAsync(string link, int value) => Pandora.Vmm.Linux.Command.RunAsync(
        "nsenter", [$"--net={fixture.World.Host.Path}", "sh", "-c", $"echo {value} > /proc/sys/net/ipv4/conf/{link}/forwarding"]);

    /// <summary>Empties a chain, tries, and puts its rules back as they were. Interfaces that forward nothing are opened meanwhile, so that only the rule is tried.</summary>
    private async Task WithoutAsync(string namespacePath, string chain, Func<Task> action)
    {
        var rules = await Pandora.Vmm.Linux.Command.RunAsync("nsenter", [$"--net={namespacePath}", "nft", "list", "chain", .. chain.Split(' ')]);
        string[] links = namespacePath == fixture.World.Host.Path ? ["meta0", "lan0", "peer0"] : [];
        var before = new Dictionary<string, int>();
        foreach (var link in links)
        {
            before[link] = int.Parse(await Pandora.Vmm.Linux.Command.RunAsync("nsenter", [$"--net={namespacePath}", "cat", $"/proc/sys/net/ipv4/conf/{link}/forwarding"]));
            await SysctlAsync(link, 1);
        }

        await TestWorld.NftAsync(namespacePath, $"flush chain {chain}");
        try
        {
            await action();
        }
        finally
        {
            await TestWorld.NftAsync(namespacePath, $"flush chain {chain}\n{rules}");
            foreach (var link in links)
            {
                await SysctlAsync(link, before[link]);
            }
        }
    }
}
