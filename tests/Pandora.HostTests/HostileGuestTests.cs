using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>A world with a server, and with listeners that a guest must not reach.</summary>
public sealed class HostileFixture : ServerFixture
{
    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_MAX_EXECS"] = "32" };

    internal DatagramListener Internet { get; private set; } = null!;

    internal DatagramListener Lan { get; private set; } = null!;

    internal override Task PrepareAsync()
    {
        Internet = World.ListenForDatagrams(World.Internet, TestWorld.InternetAddress, 7001);
        Lan = World.ListenForDatagrams(World.Lan, TestWorld.LanAddress, 7001);
        foreach (var port in new[] { 80, 443, 7000 })
        {
            World.Listen(World.Host, "0.0.0.0", port);
        }

        return Task.CompletedTask;
    }
}

/// <summary>Guests whose root user attacks: they may damage themselves, but not the host, the server or a neighbour.</summary>
public sealed class HostileGuestTests(HostileFixture fixture) : IClassFixture<HostileFixture>, IAsyncLifetime
{
    private Sandbox _hostile = null!, _neighbour = null!;

    private ServerProcess Server => fixture.Server;

    public async ValueTask InitializeAsync()
    {
        _hostile = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        _neighbour = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
    }

    public async ValueTask DisposeAsync()
    {
        // The host can end every guest, however the guest behaves.
        Assert.Equal(0, (await _hostile.EndAsync()).Remaining);
        Assert.Equal(0, (await _neighbour.EndAsync()).Remaining);
    }

    public static TheoryData<string, string> Bombs =>
        new()
        {
            { "fork, in a session of its own", "setsid bash -c 'bomb() { bomb | bomb & }; bomb' & sleep 8" },
            { "memory", "python3 -c 'x = []\nwhile True: x.append(bytearray(1 << 20))'" },
            { "disk", "head -c 3G /dev/zero > /big; sync" },
            { "console", "yes flood > /dev/ttyS0" },
            {
                "descriptors",
                "python3 -c 'import socket, time\nx = []\ntry:\n    while True: x.append(socket.socket())\nexcept OSError: time.sleep(5)'"
            },
        };

    [Theory]
    [MemberData(nameof(Bombs))]
    public async Task A_bomb_harms_no_other_sandbox(string name, string code)
    {
        Assert.NotEmpty(name);
        var before = HostBytes();
        var bombing = IgnoreAsync(() => _hostile.ExecAsync(code, new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }));
        while (!bombing.IsCompleted)
        {
            await MustServeAsync();
        }

        Assert.True(HostBytes() - before < 2300L << 20, $"the host's disk holds {(HostBytes() - before) >> 20} MiB more");
        Assert.True(DirectorySize(Server.RunDir) < 16 << 20, $"{DirectorySize(Server.RunDir)} bytes in the run directory");
        var vmm = CgroupBytes(_hostile.Id);
        Assert.True(vmm is null or < 600L << 20, $"the VMM used {vmm >> 20} MiB");
        await MustServeAsync();
    }

    // The seconds are the timeout of each command. A server that sends without end needs time to do harm, the others act at once.
    public static TheoryData<string, string, int> FalseServers => new()
    {
        { "silence", "while True:\n    time.sleep(1)", 6 },
        { "a banner without end", "while True:\n    c.sendall(b'x' * 65536)", 15 },
        { "lines without end", "while True:\n    c.sendall(b'not SSH\\r\\n' * 4096)", 15 },
        { "garbage after the banner", "c.sendall(b'SSH-2.0-dropbear_2022.83\\r\\n')\nwhile True:\n    c.sendall(os.urandom(65536))", 15 },
        {
            "a packet of four gigabytes",
            "c.sendall(b'SSH-2.0-dropbear_2022.83\\r\\n' + b'\\xff\\xff\\xff\\xff' + b'\\0' * 65536)\ntime.sleep(30)", 6
        },
    };

    /// <summary>
    /// Another program replaces the guest's SSH server. The host key belongs to the guest, so its root user can also speak SSH correctly
    /// and lie. That affects only the guest's own commands.
    /// </summary>
    [Theory]
    [MemberData(nameof(FalseServers))]
    public async Task A_false_SSH_server_harms_only_its_own_sandbox(string name, string serve, int seconds)
    {
        Assert.NotEmpty(name);
        var program =
            $"import os, socket, threading, time\ndef serve(c):\n    try:\n{Indent(serve, 8)}\n    except OSError: pass\ns = "
            + "socket.create_server(('172.16.0.2', 22))\nwhile True:\n    c, _ = s.accept()\n    threading.Thread(target=serve, "
            + "args=(c,), daemon=True).start()\n";
        await _hostile.ExecAsync(
            "cat > /root/false.py; printf '#!/bin/sh\\nexec python3 /root/false.py\\n' > /root/false; chmod +x /root/false; "
                + "d=$(command -v dropbear); rm $d; cp /root/false $d",
            new ExecOptions { Stdin = program });
        // Every dropbear process is killed, and PID 1 starts the program in its place.
        await IgnoreAsync(() =>
            _hostile.ExecAsync(
                "(sleep 0.3; pkill -9 dropbear) > /dev/null 2>&1 & sleep 3", new ExecOptions { Timeout = TimeSpan.FromSeconds(5) }));
        await UntilListeningAsync();
        var before = ResidentBytes();
        var asking = Task.WhenAll(
            Enumerable
                .Range(0, 3)
                .Select(async _ =>
                    Assert.NotNull(
                        await IgnoreAsync(() => _hostile.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromSeconds(seconds) })))));
        while (!asking.IsCompleted)
        {
            await MustServeAsync();
        }

        await asking;
        Assert.True(ResidentBytes() - before < 150 << 20, $"the server uses {(ResidentBytes() - before) >> 20} MiB more");
        await MustServeAsync();
    }

    [Fact]
    public async Task Endless_output_is_bounded_on_both_outputs_and_after_the_end()
    {
        var before = ResidentBytes();
        var flooding = IgnoreAsync(() =>
            _hostile.ExecAsync("yes & yes >&2 & sleep 6", new ExecOptions { Timeout = TimeSpan.FromSeconds(8) }));
        while (!flooding.IsCompleted)
        {
            await MustServeAsync();
        }

        await MustServeAsync();
        Assert.True(ResidentBytes() - before < 250 << 20, $"the server uses {(ResidentBytes() - before) >> 20} MiB more");
    }

    [Fact]
    public async Task Unusual_packets_reach_no_more_than_ordinary_ones()
    {
        // The guest sends fragments, packets from raw sockets and packets with IP options. None of them reaches the LAN. The fragments of
        // an ordinary sender reach the internet.
        const string Send = """
            import os, socket, struct
            def send(address):
                s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                s.sendto(b'x' * 4000, (address, 7001))
                s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b'\x83\x07\x04' + socket.inet_aton('192.168.77.10') + b'\x00')
                try: s.sendto(b'x', (address, 7001))
                except OSError: pass
                raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
                udp = struct.pack('!HHHH', 7001, 7001, 9, 0) + b'x'
                for frag in (0x2000, 0x0001, 0x0000):
                    ip = struct.pack('!BBHHHBBH4s4s', 0x45, 0, 20 + len(udp), 7, frag, 64, 17, 0,
                        socket.inet_aton('172.16.0.2'), socket.inet_aton(address))
                    raw.sendto(ip + udp, (address, 0))
            send(os.sys.argv[1])
            """;
        fixture.Internet.Senders.Clear();
        await _hostile.ExecAsync("cat > /root/send.py", new ExecOptions { Stdin = Send });
        await _hostile.ExecAsync(
            $"python3 /root/send.py {TestWorld.InternetAddress}; python3 /root/send.py {TestWorld.LanAddress}; sleep 0.5");
        Assert.NotEmpty(fixture.Internet.Senders);
        Assert.Empty(fixture.Lan.Senders);
        // The guest takes another MAC address and sends ARP replies without a request. Neighbour and host are not affected.
        await IgnoreAsync(() =>
            _hostile.ExecAsync("""
                python3 - <<'END'
                import socket, struct
                s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(('eth0', 0))
                me = b'\x02\xfc\x00\x00\x00\x99'
                for target in ('172.16.0.1', '172.16.0.2', '10.200.0.1', '93.183.0.2'):
                    for _ in range(20):
                        s.send(b'\xff' * 6 + me + b'\x08\x06' + struct.pack('!HHBBH', 1, 0x0800, 6, 4, 2)
                            + me + socket.inet_aton(target) + b'\xff' * 6 + socket.inet_aton(target))
                END
                (ip link set eth0 down; ip link set eth0 address 02:fc:00:00:00:99; ip link set eth0 up
                ip route add default via 172.16.0.1) > /dev/null 2>&1
                """, new ExecOptions { Timeout = TimeSpan.FromSeconds(6) }));
        await MustServeAsync();
    }

    [Fact]
    public async Task A_scan_of_host_and_neighbours_finds_no_open_port()
    {
        var neighbour = _neighbour.Wire!.GuestIp;
        var neighboursGateway = $"{neighbour[..neighbour.LastIndexOf('.')]}.1";
        var found = await _hostile.ExecAsync($$"""
            python3 - <<'END'
            import socket
            from concurrent.futures import ThreadPoolExecutor
            def probe(target):
                s = socket.socket(); s.settimeout(3)
                try: s.connect(target); print('open', *target)
                except OSError: pass
                finally: s.close()
            hosts = ['172.16.0.1', '{{TestWorld.HostUplinkAddress}}', '{{TestWorld.HostLanAddress}}',
                '{{neighbour}}', '{{neighboursGateway}}']
            targets = [(h, p) for h in hosts for p in (22, 53, 80, 443, 2375, 7000, 8000, 9464, 10250)]
            with ThreadPoolExecutor(32) as pool: list(pool.map(probe, targets))
            END
            """, new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        Assert.Equal((0, ""), (found.ExitCode, found.Stdout));
    }

    private async Task UntilListeningAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30), TimeProvider.System);
        while (true)
        {
            using var socket = fixture.World.Host.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
            try
            {
                await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(_hostile.Wire!.GuestIp), 22), limit.Token);
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
            }
        }
    }

    // Requires that the neighbour runs a command within the time limit, 20 s.
    private async Task MustServeAsync()
    {
        var served = await _neighbour.ExecAsync("echo served", new ExecOptions { Timeout = TimeSpan.FromSeconds(20) });
        Assert.Equal("served\n", served.Stdout);
        await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
    }

    private static async Task<Exception?> IgnoreAsync(Func<Task> run)
    {
        try
        {
            await run();
            return null;
        }
        catch (Exception e) when (e is PandoraApiException)
        {
            return e;
        }
    }

    private static string Indent(string code, int by) => string.Join('\n', code.Split('\n').Select(l => new string(' ', by) + l));

    private long HostBytes() => new DriveInfo(Server.DataDir) is var drive ? drive.TotalSize - drive.AvailableFreeSpace : 0;

    private long ResidentBytes() =>
        long.Parse(
            File.ReadLines($"/proc/{Server.Pid}/status")
                .First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;

    private long? CgroupBytes(string id)
    {
        string[] paths =
        [
            $"/sys/fs/cgroup/memory/pandora-{Server.Instance}/{id}/memory.max_usage_in_bytes",
            $"/sys/fs/cgroup/pandora-{Server.Instance}/{id}/memory.peak",
        ];
        return paths.FirstOrDefault(File.Exists) is { } path ? long.Parse(File.ReadAllText(path)) : null;
    }

    private static long DirectorySize(string path) =>
        Directory.GetFiles(path, "*", SearchOption.AllDirectories).Sum(f => new FileInfo(f) is { Exists: true } file ? file.Length : 0);
}
