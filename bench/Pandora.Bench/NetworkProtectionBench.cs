using System.Diagnostics;
using System.Diagnostics.Metrics;
using System.Globalization;
using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Client;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Networking;
using Pandora.Load;
using Pandora.Prove;
using Pandora.Prove.Checks;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.Bench;

/// <summary>
/// The network rules that confine guests: how soon they are repaired, what watching them costs, and what the bounds of connections cost an
/// ordinary guest. Also the server under a flood of connections, and beside dead guests at a restart.
/// </summary>
internal static class NetworkProtectionBench
{
    private const int Flushes = 3, Connections = 2000, ConnectionRounds = 3, Slots = 64, Few = 8, Restarts = 3;
    private static readonly TimeSpan WatchTime = TimeSpan.FromSeconds(20), FloodTime = TimeSpan.FromSeconds(30);

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target) =>
        [.. await OnStageAsync(), await WatchAsync(), await FloodAsync(), await AdoptionAsync(target)];

    private static async Task<IReadOnlyList<Result>> OnStageAsync()
    {
        await using var stage = await Stage.CreateAsync();
        await using var sandbox = await stage.Server.Pandora.CreateAsync(
            new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        return [.. await FlushAsync(stage, sandbox), await OrdinaryGuestAsync(stage, sandbox)];
    }

    // A guest connects to forbidden addresses without pause, while the host's table is deleted.
    private static async Task<IReadOnlyList<Result>> FlushAsync(Stage stage, Sandbox sandbox)
    {
        string[] forbidden = [TestWorld.LanAddress, TestWorld.NeighbourAddress, TestWorld.MetadataAddress, TestWorld.HostLanAddress];
        foreach (var link in new[] { "lan0", "peer0", "meta0" })
        {
            // With forwarding on, only the rules refuse.
            await stage.SetForwardingAsync(link, 1);
        }

        await sandbox.ExecAsync($"""
            cat > /root/try.py <<'END'
            import os, socket
            tries = reached = 0
            while True:
                for address in {string.Concat("[", string.Join(", ", forbidden.Select(f => $"'{f}'")), "]")}:
                    s = socket.socket(); s.settimeout(1); tries += 1
                    try:
                        s.connect((address, {Stage.Port})); reached += 1
                    except OSError: pass
                    s.close()
                with open('/root/tried.new', 'w') as f: f.write(f'{"{tries} {reached}"}\n')
                os.replace('/root/tried.new', '/root/tried')
            END
            (python3 /root/try.py > /dev/null 2>&1 &)
            """);
        var longest = TimeSpan.Zero;
        for (var i = 0; i < Flushes; i++)
        {
            await Task.Delay(TimeSpan.FromSeconds(2), TimeProvider.System);
            var start = Stopwatch.GetTimestamp();
            await NetworkProtection.DeleteTableAsync(stage);
            while (!(await TestWorld.ListRulesAsync(stage.World.Host.Path)).Contains($"table {stage.Table}", StringComparison.Ordinal))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
            }

            longest = longest > Stopwatch.GetElapsedTime(start) ? longest : Stopwatch.GetElapsedTime(start);
        }

        var words = (await sandbox.ExecAsync("pkill -f '[t]ry.py'; cat /root/tried")).Stdout.Trim().Split(' ');
        foreach (var link in new[] { "lan0", "peer0", "meta0" })
        {
            await stage.SetForwardingAsync(link, 0);
        }

        return
        [
            new("the host's table deleted, until it is back, longest", longest.TotalSeconds, "s", 5, $"{Flushes} times"),
            new("forbidden connections of a guest meanwhile", double.Parse(words[1], CultureInfo.InvariantCulture), "", 0,
                $"of {words[0]} that it tried"),
        ];
    }

    private static async Task<Result> OrdinaryGuestAsync(Stage stage, Sandbox sandbox)
    {
        var code = $"""
            python3 -c "
            import socket, time
            start = time.monotonic()
            for i in range({Connections}):
                s = socket.socket(); s.settimeout(30); s.connect(('{TestWorld.InternetAddress}', {Stage.Port})); s.recv(5); s.close()
            print(time.monotonic() - start)
            "
            """;
        async Task<double> MeasureAsync() => double.Parse(await stage.RunInGuestAsync(sandbox, code), CultureInfo.InvariantCulture);
        List<double> bounded = [], free = [];
        for (var i = 0; i < ConnectionRounds; i++)
        {
            bounded.Add(Connections / await MeasureAsync());
            // Without the bounds, every connection that is not refused is accepted.
            await stage.WithoutAsync([stage.OfSlot(sandbox, "admit"), stage.OfHost("bound")], async () =>
            {
                await TestWorld.NftAsync(stage.SlotOf(sandbox).Path, "add rule inet slot admit accept");
                free.Add(Connections / await MeasureAsync());
            });
        }

        var (with, without) = (bounded.Max(), free.Max());
        return new Result($"{Connections} short connections of a guest without the bounds / with them, rates", without / with, "×", 1 / 0.9,
            string.Create(CultureInfo.InvariantCulture, $"{without:0} / {with:0} a second, best of {ConnectionRounds} each"));
    }

    // Uses the real rules in real namespaces, without guests.
    private static async Task<Result> WatchAsync()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        await using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var options = new EngineOptions { DataDir = directory, RunDir = Path.Combine(directory, "run") };
        using var instance = Instance.Open(options);
        await using var network = await NetworkRules.CreateAsync(instance.Names, options, [], NullLogger.Instance, CancellationToken.None);
        await using var slots = new SlotPool(
            network,
            instance.Names,
            new EgressPolicy(Egress.Internet),
            Slots,
            new Dictionary<int, string>(),
            TimeProvider.System,
            NullLogger<SlotPool>.Instance);
        slots.Prepare();
        while (Enumerable.Range(0, Slots).Any(s => !network.IsGuarded(s)))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        var idle = await ProcessorTimeAsync();
        using var meter = services.GetRequiredService<IMeterFactory>().Create("bench");
        await using var watch = new NetworkWatch(network, meter, TimeProvider.System, NullLogger<NetworkWatch>.Instance);
        var watched = await ProcessorTimeAsync();
        return new Result(
            $"the watch with {Slots} slots", Math.Max(0, (watched - idle) / WatchTime * 100), "% of a core", 0.5,
            string.Create(CultureInfo.InvariantCulture,
                $"{watched.TotalMilliseconds:0} ms in {WatchTime.TotalSeconds:0} s, {idle.TotalMilliseconds:0} ms without it"));
    }

    private static async Task<TimeSpan> ProcessorTimeAsync()
    {
        await Task.Delay(TimeSpan.FromSeconds(3), TimeProvider.System);
        using var self = Process.GetCurrentProcess();
        var before = self.TotalProcessorTime;
        await Task.Delay(WatchTime, TimeProvider.System);
        self.Refresh();
        return self.TotalProcessorTime - before;
    }

    // A server with few descriptors, clients with a key, and very many connections without a key.
    private static async Task<Result> FloodAsync()
    {
        const string Key = "a-key-of-the-benchmarks";
        await using var world = await TestWorld.CreateAsync();
        await using var server = await ServerProcess.StartAsync(world, new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_API_KEYS"] = Key },
            waitUntilReady: false, preamble: "ulimit -n 1024;");
        server.Http.DefaultRequestHeaders.Authorization = new("Bearer", Key);
        await server.WaitUntilReadyAsync();
        await server.WaitForWarmAsync(2);
        var flood = new ConnectionFlood(new IPEndPoint(IPAddress.Loopback, 8000), Key, action => world.Host.Run(() =>
        {
            action();
            return true;
        }));
        var report = await flood.RunAsync(FloodTime);
        var slowest = Math.Max(report.OnNew!.P99, report.OnKept!.P99);
        return report.Failures.Count == 0
            ? new Result(
                "`GET /sandboxes` with a key under a flood of silent connections, p99",
                slowest,
                "ms",
                250,
                $"{report.OnNew.Count + report.OnKept.Count} requests, all answered, while {report.Opened} connections were opened in "
                    + $"{FloodTime.TotalSeconds:0} s")
            : throw new InvalidOperationException($"{report.Failures.Count} requests were not answered: {report.Failures[0]}");
    }

    private static async Task<Result> AdoptionAsync(Target target)
    {
        await using var server = await BenchServer.StartAsync(target, poolSize: 2);
        var healthy = await CreateAsync(server);
        Latencies alone = new(), beside = new();
        for (var i = 0; i < Restarts; i++)
        {
            alone.Add(await RestartAsync(server, healthy, []));
            var dead = await CreateAsync(server);
            beside.Add(await RestartAsync(server, healthy, dead));
            await server.WaitForQuietAsync(2);
        }

        return new Result(
            $"{Few} healthy sandboxes served after kill -9, beside {Few} dead ones / alone",
            beside.Percentile(50) / alone.Percentile(50), "×", 1.2,
            string.Create(CultureInfo.InvariantCulture,
                $"{beside.Percentile(50):0} ms / {alone.Percentile(50):0} ms, {Restarts} each; half of the dead are stopped, half gone"));
    }

    private static async Task<List<Sandbox>> CreateAsync(BenchServer server)
    {
        var sandboxes = new List<Sandbox>();
        while (sandboxes.Count < Few)
        {
            await server.WaitForWarmAsync(1);
            sandboxes.Add(await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) }));
        }

        await server.WaitForQuietAsync(2);
        return sandboxes;
    }

    // The time from the start of the process until every healthy sandbox is listed as running.
    private static async Task<TimeSpan> RestartAsync(BenchServer server, IReadOnlyList<Sandbox> healthy, IReadOnlyList<Sandbox> dead)
    {
        await server.KillAsync();
        for (var i = 0; i < dead.Count; i++)
        {
            using var vmm = ProcessHandle.TryOpen(
                int.Parse(await File.ReadAllTextAsync(Path.Combine(server.RunDir, dead[i].Id, "vmm.pid")), CultureInfo.InvariantCulture));
            // SIGSTOP leaves a VMM alive and silent, SIGKILL ends it.
            vmm!.Kill(i % 2 == 0 ? 19 : 9);
        }

        var start = Stopwatch.GetTimestamp();
        var starting = server.StartAgainAsync();
        foreach (var sandbox in healthy)
        {
            while (!await IsServedAsync(server, sandbox))
            {
                await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System);
            }
        }

        var elapsed = Stopwatch.GetElapsedTime(start);
        await starting;
        while ((await server.Pandora.GetHealthAsync()).Status == "recovering")
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System);
        }

        return elapsed;
    }

    private static async Task<bool> IsServedAsync(BenchServer server, Sandbox sandbox)
    {
        try
        {
            return (await server.Pandora.GetAsync(sandbox.Id)).State == "running";
        }
        catch (Exception e) when (e is ServerUnreachableException or SandboxUnavailableException)
        {
            return false;
        }
    }
}
