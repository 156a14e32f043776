using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Guests whose root user attacks: they may damage themselves, but not the host, the server or a neighbour.</summary>
public sealed class HostileGuestTests(HostileFixture fixture) : HostileTest(fixture), IClassFixture<HostileFixture>
{
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
        var bombing = IgnoreAsync(() => Hostile.ExecAsync(code, new ExecOptions { Timeout = TimeSpan.FromSeconds(10) }));
        while (!bombing.IsCompleted)
        {
            await MustServeAsync();
        }

        Assert.True(HostBytes() - before < 2300L << 20, $"the host's disk holds {(HostBytes() - before) >> 20} MiB more");
        Assert.True(DirectorySize(Server.RunDir) < 16 << 20, $"{DirectorySize(Server.RunDir)} bytes in the run directory");
        var vmm = CgroupBytes(Hostile.Id);
        Assert.True(vmm is null or < 600L << 20, $"the VMM used {vmm >> 20} MiB");
        await MustServeAsync();
    }

    [Fact]
    public async Task Endless_output_is_bounded_on_both_outputs_and_after_the_end()
    {
        var before = ResidentBytes();
        var flooding = IgnoreAsync(() =>
            Hostile.ExecAsync("yes & yes >&2 & sleep 6", new ExecOptions { Timeout = TimeSpan.FromSeconds(8) }));
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
        Fixture.Internet.Senders.Clear();
        await Hostile.ExecAsync("cat > /root/send.py", new ExecOptions { Stdin = Send });
        await Hostile.ExecAsync(
            $"python3 /root/send.py {TestWorld.InternetAddress}; python3 /root/send.py {TestWorld.LanAddress}; sleep 0.5");
        Assert.NotEmpty(Fixture.Internet.Senders);
        Assert.Empty(Fixture.Lan.Senders);
        // The guest takes another MAC address and sends ARP replies without a request. Neighbour and host are not affected.
        await IgnoreAsync(() =>
            Hostile.ExecAsync("""
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
        var neighbour = Neighbour.Wire!.GuestIp;
        var neighboursGateway = $"{neighbour[..neighbour.LastIndexOf('.')]}.1";
        var found = await Hostile.ExecAsync($$"""
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
}
