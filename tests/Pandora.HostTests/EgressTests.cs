using System.Diagnostics;
using System.Text.RegularExpressions;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.HostTests.World;
using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>The egress of a living sandbox: what is under way is cut, and what was cut stays cut.</summary>
public sealed partial class EgressTests : IAsyncLifetime
{
    private const int Sends = 9001, Echoes = 9002, Datagrams = 9003;

    // Each flow writes how far it has come to a file of its name. Flow idle exchanges a byte whenever the file poke appears.
    private const string Flows = """
        import os, socket, struct, threading, time
        HOST = "93.184.0.10"
        def note(name, text):
            with open(f"/run/{name}.new", "w") as f: f.write(str(text))
            os.rename(f"/run/{name}.new", f"/run/{name}")
        def flow(work):
            name = work.__name__
            def run():
                try: work(lambda text: note(name, text))
                except OSError as e: note(name, f"dead: {e.strerror}")
            threading.Thread(target=run).start()
        @flow
        def download(note):
            s, count = socket.create_connection((HOST, 9001)), 0
            while data := s.recv(65536): note(count := count + len(data))
        @flow
        def echo(note):
            s, count = socket.create_connection((HOST, 9002)), 0
            while True:
                s.sendall(b"x"); s.recv(1); note(count := count + 1); time.sleep(0.02)
        @flow
        def idle(note):
            s, count = socket.create_connection((HOST, 9002)), 0
            while True:
                if os.path.exists("/run/poke"):
                    os.remove("/run/poke"); s.sendall(b"x"); s.recv(1); note(count := count + 1)
                time.sleep(0.02)
        def retried(exchange, note):
            count = 0
            while True:
                try: exchange(); note(count := count + 1)
                except OSError: pass
                time.sleep(0.02)
        @flow
        def datagrams(note):
            s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(0.2); s.connect((HOST, 9003))
            retried(lambda: (s.send(b"x"), s.recv(1)), note)
        @flow
        def ping(note):
            s = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP); s.settimeout(0.2)
            def exchange():
                s.sendto(struct.pack("!BBHHH", 8, 0, 0xffff - 0x0801, 1, 0), (HOST, 0))
                deadline = time.monotonic() + 0.2
                while s.recv(100)[20] != 0:
                    if time.monotonic() > deadline: raise TimeoutError()
            retried(exchange, note)
        """;

    private TestWorld _world = null!;
    private ServerProcess _server = null!;
    private EchoServer _sending = null!, _echoing = null!;
    private DatagramListener _datagrams = null!;

    public async ValueTask InitializeAsync()
    {
        _world = await TestWorld.CreateAsync();
        _sending = new EchoServer(_world.Internet, TestWorld.InternetAddress, Sends, sends: true);
        _echoing = new EchoServer(_world.Internet, TestWorld.InternetAddress, Echoes);
        _datagrams = _world.ListenForDatagrams(_world.Internet, TestWorld.InternetAddress, Datagrams, bytes => bytes);
        _server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" });
    }

    public async ValueTask DisposeAsync()
    {
        _sending.Dispose();
        _echoing.Dispose();
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
    public async Task What_is_under_way_dies_at_once_and_does_not_go_on_when_the_internet_is_back()
    {
        var sandbox = await _server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await StartFlowsAsync(sandbox);
        var before = await ReadAsync(sandbox);
        await PokeAsync(sandbox);
        var after = await UntilAsync(sandbox, now => now.All(f => Count(f.Value) > Count(before[f.Key])));
        Assert.Equal((1, 2), (_sending.Open, _echoing.Open));

        var asked = Stopwatch.GetTimestamp();
        Assert.Equal("none", (await sandbox.SetEgressAsync("none")).Egress);
        var answered = Stopwatch.GetElapsedTime(asked);
        // At the other side: nothing arrives after the answer but what was under way then. What is under way ends within a second or two,
        // and what goes on never does: the guest sends fifty times a second.
        var (bytes, datagrams) = await StableAsync();
        await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
        Assert.Equal((bytes, datagrams), (_echoing.Bytes, Received));
        // The sender of the download learned of it by a reset, because it went on sending. The other side of the idle connection has sent
        // nothing, and that of the echo only if its last answer was under way: these may not know yet.
        await ProcessTests.UntilAsync(() => Task.FromResult(_sending.Open == 0));
        Assert.InRange(_echoing.Open, 1, 2);
        var dead = await ReadAsync(sandbox);
        Assert.Equal("dead: Connection reset by peer", dead["echo"]);
        TestContext.Current.SendDiagnosticMessage($"PUT egress: {answered.TotalMilliseconds:0.0} ms");

        await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System);
        Assert.Equal(dead, await ReadAsync(sandbox));
        Assert.All(["datagrams", "ping"], flow => Assert.InRange(Count(dead[flow]), Count(after[flow]), long.MaxValue));
        Assert.NotEqual(0, (await sandbox.ExecAsync(Connect)).ExitCode);
        Assert.Equal("0", (await InSlotAsync(sandbox, "cat", "/proc/sys/net/netfilter/nf_conntrack_count")).Trim());
        Assert.Equal("none", (await sandbox.GetAsync()).Egress);

        Assert.Equal("internet", (await sandbox.SetEgressAsync("internet")).Egress);
        Assert.Equal(0, (await sandbox.ExecAsync(Connect)).ExitCode);
        await PokeAsync(sandbox);
        // Each datagram is a new exchange; a TCP connection begins with SYN.
        var again = await UntilAsync(sandbox, now =>
            now["idle"].StartsWith("dead", StringComparison.Ordinal) && Count(now["datagrams"]) > Count(dead["datagrams"])
            && Count(now["ping"]) > Count(dead["ping"]));
        Assert.Equal("dead: Connection reset by peer", again["idle"]);
        Assert.Equal((dead["download"], dead["echo"]), (again["download"], again["echo"]));
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task A_connection_that_is_open_goes_on_when_the_internet_is_given_once_more()
    {
        var sandbox = await _server.Pandora.CreateAsync();
        await StartFlowsAsync(sandbox);
        await sandbox.SetEgressAsync("internet");
        var before = await ReadAsync(sandbox);
        await PokeAsync(sandbox);
        await UntilAsync(sandbox, now => now.All(f => Count(f.Value) > Count(before[f.Key])));
    }

    [Fact]
    public async Task What_was_answered_holds_after_kill_9_and_within_the_ceiling_of_the_next_server()
    {
        var sandbox = await _server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        var other = await _server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "none" });
        Assert.Equal(0, (await sandbox.ExecAsync(Connect)).ExitCode);
        Assert.NotEqual(0, (await other.ExecAsync(Connect)).ExitCode);
        await sandbox.SetEgressAsync("none");
        await other.SetEgressAsync("internet");

        await _server.KillAsync();
        await _server.StartAsync();
        Assert.Equal(("none", "internet"), ((await sandbox.GetAsync()).Egress, (await other.GetAsync()).Egress));
        Assert.NotEqual(0, (await sandbox.ExecAsync(Connect)).ExitCode);
        Assert.Equal(0, (await other.ExecAsync(Connect)).ExitCode);

        await _server.KillAsync();
        _server.Set("PANDORA_EGRESS", "none");
        await _server.StartAsync();
        foreach (var each in new[] { sandbox, other })
        {
            var refused = await Assert.ThrowsAnyAsync<PandoraApiException>(() => each.SetEgressAsync("internet"));
            Assert.Equal((403, ErrorCodes.EgressForbidden.Code), (refused.Status, refused.Code));
            Assert.NotEqual(0, (await each.ExecAsync(Connect)).ExitCode);
            Assert.Equal("none", (await each.SetEgressAsync("none")).Egress);
        }
    }

    [Fact]
    public async Task Many_changes_at_once_leave_the_last_one_and_nothing_to_repair()
    {
        var sandbox = await _server.Pandora.CreateAsync();
        for (var round = 0; round < 5; round++)
        {
            await Task.WhenAll(Enumerable.Range(0, 10).Select(i => sandbox.SetEgressAsync(i % 2 == 0 ? "none" : "internet")));
            var isOpen = (await sandbox.GetAsync()).Egress == "internet";
            Assert.Equal(isOpen, (await sandbox.ExecAsync(Connect)).ExitCode == 0);
        }

        await sandbox.SetEgressAsync("none");
        // The watch looks at the slots' rules every two seconds.
        await Task.Delay(TimeSpan.FromSeconds(5), TimeProvider.System);
        Assert.NotEqual(0, (await sandbox.ExecAsync(Connect)).ExitCode);
        Assert.Equal("0", await RepairsAsync());

        // What another program opens, the watch closes again.
        await TestWorld.NftAsync(SlotOf(sandbox), "add element inet slot open { \"tap0\" }");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while ((await sandbox.ExecAsync(Connect)).ExitCode == 0)
        {
            limit.Token.ThrowIfCancellationRequested();
        }

        // It counts what it did after it has done it.
        while (await RepairsAsync() == "0")
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }

        Assert.Equal("1", await RepairsAsync());
        var changes = Enumerable.Range(0, 10).Select(i => sandbox.SetEgressAsync(i % 2 == 0 ? "none" : "internet")).ToList();
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
        foreach (var change in changes)
        {
            Assert.True(await Record.ExceptionAsync(() => change) is null or SandboxNotFoundException);
        }
    }

    private const string Connect = "timeout 20 bash -c 'exec 3<>/dev/tcp/93.184.0.10/9002'";

    private int Received
    {
        get
        {
            lock (_datagrams.Senders)
            {
                return _datagrams.Senders.Count;
            }
        }
    }

    // What the other side has received, once that has not changed for a second.
    private async Task<(long Bytes, int Datagrams)> StableAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), TimeProvider.System);
        while (true)
        {
            var before = (_echoing.Bytes, Received);
            await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, limit.Token);
            if (before == (_echoing.Bytes, Received))
            {
                return before;
            }
        }
    }

    private async Task<string> RepairsAsync() => RepairsPattern().Match(await _server.Pandora.GetMetricsAsync()).Groups["count"].Value;

    [GeneratedRegex(@"pandora_protection_repairs_total\{[^}]*what=""slot_rules""[^}]*\} (?<count>[0-9]+)")]
    private static partial Regex RepairsPattern();

    private static async Task StartFlowsAsync(Sandbox sandbox)
    {
        var started = await sandbox.ExecAsync(
            "cat > /run/flows.py; touch /run/poke; setsid python3 /run/flows.py > /run/log 2>&1 &",
            new ExecOptions { Stdin = Flows });
        Assert.Equal(0, started.ExitCode);
        await UntilAsync(sandbox, now => now.Count == 5 && now.All(f => Count(f.Value) > 0));
    }

    private static async Task PokeAsync(Sandbox sandbox) => await sandbox.ExecAsync("touch /run/poke");

    private static async Task<Dictionary<string, string>> ReadAsync(Sandbox sandbox)
    {
        var result = await sandbox.ExecAsync("cd /run && grep -s '' download echo idle datagrams ping; cat log >&2");
        Assert.Equal("", result.Stderr);
        return result.Stdout.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => l.Split(':', 2))
            .ToDictionary(p => p[0], p => p[1]);
    }

    private static async Task<Dictionary<string, string>> UntilAsync(Sandbox sandbox, Func<Dictionary<string, string>, bool> isSo)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (true)
        {
            var now = await ReadAsync(sandbox);
            if (isSo(now))
            {
                return now;
            }

            Assert.False(limit.IsCancellationRequested, string.Join(", ", now));
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }
    }

    private static long Count(string progress) => long.TryParse(progress, out var count) ? count : -1;

    private string SlotOf(Sandbox sandbox) => $"/run/netns/pnd-{_server.Instance}-{sandbox.Wire!.SlotId}";

    private Task<string> InSlotAsync(Sandbox sandbox, params string[] command) =>
        Command.RunAsync("nsenter", [$"--net={SlotOf(sandbox)}", .. command]);
}
