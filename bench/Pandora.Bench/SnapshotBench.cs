using System.Diagnostics;
using Pandora.Client;
using Pandora.Engine.Templates;
using Pandora.Engine;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>Restores from a snapshot, compared with cold boots and with a bare script, alternately, and in a burst.</summary>
internal static class SnapshotBench
{
    private const int Rounds = 9, Many = 8, Burst = 20, PoolSize = 4, BurstRounds = 3;
    private static readonly Dictionary<string, string> ByBoot = new() { ["PANDORA_POOL_START"] = "boot" };

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target) => [.. await SingleAsync(target), await BurstAsync(target)];

    private static async Task<IReadOnlyList<Result>> SingleAsync(Target target)
    {
        await using var restoring = await BenchServer.StartAsync(target, poolSize: 0);
        await using var booting = await BenchServer.StartAsync(target, poolSize: 0, port: 8124, settings: ByBoot);
        var snapshot = await restoring.WaitForSnapshotAsync();
        var template = new TemplateStore(target.Templates).Find(EngineOptions.DefaultTemplate)!;
        var work = Directory.CreateDirectory(Path.Combine(restoring.DataDir, "bare")).FullName;
        Latencies restored = new(), booted = new(), bare = new();
        List<double> restoredMiB = [], bareMiB = [];
        for (var i = -1; i < Rounds; i++)
        {
            var (elapsed, memory) = await FirstExecAsync(restoring);
            var (bootElapsed, _) = await FirstExecAsync(booting);
            var (bareElapsed, bareMemory) = await BareRestore.RunAsync(
                target, template, snapshot, work);
            if (i >= 0)
            {
                restored.Add(elapsed);
                booted.Add(bootElapsed);
                bare.Add(bareElapsed);
                restoredMiB.Add(memory);
                bareMiB.Add(bareMemory);
            }
        }

        var many = new List<Sandbox>();
        for (var i = 0; i < Many; i++)
        {
            many.Add(await restoring.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) }));
            await many[^1].ExecAsync("true");
        }

        var each = many.Average(s => BenchServer.PssMiB(restoring.VmmPid(s)));
        await Task.WhenAll(many.Select(s => s.DisposeAsync().AsTask()));
        var (byServer, byScript) = (Median(restoredMiB), Median(bareMiB));
        var p50 = restored.Percentile(50);
        return
        [
            new(
                "restore to first exec / cold boot to first exec",
                p50 / booted.Percentile(50),
                "×",
                0.3,
                $"{p50 / 1000:0.00} s / {booted.Percentile(50) / 1000:0.00} s, no warm-up, {Rounds} each"),
            new(
                "restore to first exec / bare script of the same steps",
                p50 / bare.Percentile(50),
                "×",
                1.1,
                $"{p50 / 1000:0.00} s / {bare.Percentile(50) / 1000:0.00} s"),
            new(
                "memory of an idle restored microVM / bare script's (PSS)",
                byServer / byScript,
                "×",
                1.1,
                $"{byServer:0.0} MiB / {byScript:0.0} MiB, after one `true`"),
            // There is no objective for Firecracker.
            .. target.Firecracker is null
                ?
                [
                    new Result(
                        "memory of an idle restored microVM (PSS)",
                        each,
                        "MiB",
                        64,
                        $"each of {Many}, after one `true`; of one alone, which shares no memory, {byServer:0.0} MiB"),
                ]
                : Array.Empty<Result>(),
        ];
    }

    private static async Task<(TimeSpan Elapsed, double MiB)> FirstExecAsync(BenchServer server)
    {
        var start = Stopwatch.GetTimestamp();
        await using var sandbox = await server.Pandora.CreateAsync();
        await sandbox.ExecAsync("true");
        return (Stopwatch.GetElapsedTime(start), BenchServer.PssMiB(server.VmmPid(sandbox)));
    }

    private static async Task<Result> BurstAsync(Target target)
    {
        var (restored, booted) = (await BurstAsync(target, []), await BurstAsync(target, ByBoot));
        return new Result(
            $"burst of {Burst} claims from a pool of {PoolSize}: restored / booted",
            restored / booted,
            "×",
            0.5,
            $"{restored:0.0} s / {booted:0.0} s to the last one, {BurstRounds} bursts each");
    }

    private static async Task<double> BurstAsync(Target target, Dictionary<string, string> settings)
    {
        await using var server = await BenchServer.StartAsync(target, PoolSize, settings: settings);
        if (settings.Count == 0)
        {
            await server.WaitForSnapshotAsync();
        }

        var times = new List<double>();
        for (var i = 0; i < BurstRounds; i++)
        {
            await server.WaitForQuietAsync(PoolSize);
            var start = Stopwatch.GetTimestamp();
            var sandboxes = await Task.WhenAll(
                Enumerable
                    .Range(0, Burst)
                    .Select(_ => server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) })));
            times.Add(Stopwatch.GetElapsedTime(start).TotalSeconds);
            await Task.WhenAll(sandboxes.Select(s => s.DisposeAsync().AsTask()));
        }

        return Median(times);
    }

    private static double Median(List<double> values) => values.Order().ElementAt(values.Count / 2);
}
