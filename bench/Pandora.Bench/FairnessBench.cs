using System.Diagnostics;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// One project claims a sandbox now and then, while another project is quiet or offers ten times the claims that the pool can refill. The
/// node is real, its guests are fakes that take some time to boot. Both projects share the processors.
/// </summary>
internal static class FairnessBench
{
    private const int Seconds = 6, Rounds = 6, Boots = 2, Flood = 10;
    private static readonly TimeSpan BootTime = TimeSpan.FromMilliseconds(20);

    // More is impossible: the real rate is somewhat lower.
    private static double RefillRate => Boots / BootTime.TotalSeconds;

    public static async Task<IReadOnlyList<Result>> RunAsync()
    {
        await RunAsync(Flood, seconds: 2, new Run());
        Run quiet = new(), flooded = new();
        for (var i = 0; i < Rounds; i++)
        {
            await RunAsync(0, Seconds, quiet);
            await RunAsync(Flood, Seconds, flooded);
        }

        return
        [
            new(
                "acquire p99 of a calm project, another floods the pool / is quiet",
                flooded.Calm.Percentile(99) / quiet.Calm.Percentile(99),
                "×",
                2,
                $"{flooded.Calm.Percentile(99):0.00} ms / {quiet.Calm.Percentile(99):0.00} ms; p50 {flooded.Calm.Percentile(50):0.00} ms / "
                    + $"{quiet.Calm.Percentile(50):0.00} ms; {flooded.Calm.Count} / {quiet.Calm.Count} claims, of which waited "
                    + $"{flooded.CalmWaited} / {quiet.CalmWaited}; the other offered {flooded.PerSecond(flooded.Offered):0}, got "
                    + $"{flooded.PerSecond(flooded.Got):0} a second, at best {RefillRate:0}"),
        ];
    }

    private static async Task RunAsync(int flood, int seconds, Run run)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 4, MaxSandboxes = 1000, BootParallelism = Boots });
        node.Vmm.StartTime = BootTime;
        using var end = new CancellationTokenSource();
        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 4, BootingCount: 0 });
        // Until now, the quiet project has claimed too: the pool does the same for the calm one in both cases.
        foreach (var project in new[] { "busy", "calm" })
        {
            await DeleteAsync(node, await SandboxesOf(node, project).CreateAsync(new SandboxRequest(), default));
        }

        await FakeNode.UntilAsync(() => node.Pool is { WarmCount: 4, BootingCount: 0 });
        var flooding = FloodAsync(node, flood * RefillRate, seconds, run, end.Token);
        await ClaimCalmlyAsync(node, seconds, run);
        await end.CancelAsync();
        await flooding;
        run.Seconds += seconds;
    }

    // One claim at a time, at intervals of which none is shorter than two boots one after the other.
    private static async Task ClaimCalmlyAsync(FakeNode node, int seconds, Run run)
    {
        var sandboxes = SandboxesOf(node, "calm");
        var begin = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(begin).TotalSeconds < seconds)
        {
            await Task.Delay(BootTime * (2 + Random.Shared.NextDouble()), TimeProvider.System);
            var start = Stopwatch.GetTimestamp();
            var created = await sandboxes.CreateAsync(new SandboxRequest(), default);
            run.Calm.Add(Stopwatch.GetElapsedTime(start));
            run.CalmWaited += created.IsWarm ? 0 : 1;
            await DeleteAsync(node, created);
        }
    }

    // An open loop: each claim arrives when it is due, independent of earlier ones.
    private static async Task FloodAsync(FakeNode node, double rate, int seconds, Run run, CancellationToken end)
    {
        var start = Stopwatch.GetTimestamp();
        var running = new List<Task>();
        for (var i = 0; i < rate * seconds && !end.IsCancellationRequested; i++)
        {
            var wait = TimeSpan.FromSeconds(i / rate) - Stopwatch.GetElapsedTime(start);
            if (wait > TimeSpan.Zero)
            {
                await Task.Delay(wait, TimeProvider.System, CancellationToken.None);
            }

            run.Offered++;
            running.Add(FloodOnceAsync(node, run, end));
        }

        await Task.WhenAll(running);
    }

    private static async Task FloodOnceAsync(FakeNode node, Run run, CancellationToken end)
    {
        try
        {
            var created = await SandboxesOf(node, "busy").CreateAsync(new SandboxRequest(), end);
            Interlocked.Increment(ref run.Got);
            await DeleteAsync(node, created);
        }
        catch (PandoraException e) when (e.Error == PandoraError.Overloaded)
        {
            // Nearly all are refused.
        }
        catch (OperationCanceledException)
        {
            // The round has ended.
        }
    }

    private static ProjectSandboxes SandboxesOf(FakeNode node, string project) => new(node.Sandboxes, project, seesAll: false);

    private static Task DeleteAsync(FakeNode node, CreatedSandbox created) =>
        node.Sandboxes.DeleteAsync(created.Sandbox.Id, complete: false);

    private sealed class Run
    {
        public int Got;

        public Latencies Calm { get; } = new();

        public int CalmWaited { get; set; }

        public int Offered { get; set; }

        public int Seconds { get; set; }

        public double PerSecond(int count) => (double)count / Seconds;
    }
}
