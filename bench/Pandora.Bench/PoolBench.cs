using Pandora.Load;

namespace Pandora.Bench;

/// <summary>Claims and deletions while the pool refills.</summary>
internal static class PoolBench
{
    private const int Rounds = 40;

    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        // The first claims are not measured, because the runtime compiles the code that they use.
        await RunAsync(server, 4);
        var run = await RunAsync(server, Rounds);
        return
        [
            new("acquire p50, pool refilling", run.AcquireAtServer.Percentile(50), "ms", 1, $"{run.AcquireAtServer.Count} claims"),
            new("acquire p99, pool refilling", run.AcquireAtServer.Percentile(99), "ms", 5, $"{run.AcquireAtServer.Count} claims"),
            new(
                "DELETE p50, guest dead and id gone",
                run.DeleteAtClient.Percentile(50),
                "ms",
                50,
                $"{run.DeleteAtClient.Count} deletions, at the client"),
        ];
    }

    private static async Task<LoadRun> RunAsync(BenchServer server, int requests)
    {
        var plan = new LoadPlan { Requests = requests, Parallel = 1, ExecsPer = 0 };
        var run = new LoadRun(server.Pandora, server.Url, plan, TimeProvider.System) { BeforeEach = _ => server.WaitForWarmAsync(1) };
        var report = await run.RunAsync(CancellationToken.None);
        return report is { Failed: 0, Cold: 0, Leaks.IsClean: true }
            ? run
            : throw new InvalidOperationException($"the load failed: {report}");
    }
}
