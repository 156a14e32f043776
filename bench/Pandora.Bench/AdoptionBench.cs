using Pandora.Client;
using System.Diagnostics;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// The time from the kill of a server until its successor serves clients: with fifty sandboxes on the fake VMM, whose guests take 0.2 s to
/// answer, and with eight sandboxes on the real VMM.
/// </summary>
internal static class AdoptionBench
{
    private const int Many = 50, Rounds = 5;

    // The figure of the fake VMM is not reported as one of Firecracker.
    public static async Task<IReadOnlyList<Result>> RunAsync(Target target) =>
        target.Firecracker is null ? [await OnFakesAsync(), await OnRealVmmAsync(target)] : [await OnRealVmmAsync(target)];

    private static async Task<Result> OnFakesAsync()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 4, MaxSandboxes = Many })
        {
            AdoptionTime = TimeSpan.FromSeconds(0.2),
        };
        for (var i = 0; i < Many; i++)
        {
            await node.Sandboxes.CreateAsync(new SandboxRequest(), CancellationToken.None);
        }

        var latencies = new Latencies();
        for (var i = 0; i < Rounds; i++)
        {
            var start = Stopwatch.GetTimestamp();
            await node.RestartAsync(isKilled: true);
            latencies.Add(Stopwatch.GetElapsedTime(start));
        }

        return node.Sandboxes.Count == Many
            ? new Result(
                $"{Many} sandboxes taken over on the fake VMM's 0.2 s", latencies.Percentile(50) / 1000, "s", 2, $"{Rounds} restarts")
            : throw new InvalidOperationException($"only {node.Sandboxes.Count} of {Many} sandboxes were adopted");
    }

    private static async Task<Result> OnRealVmmAsync(Target target)
    {
        const int Few = 8;
        await using var server = await BenchServer.StartAsync(target, poolSize: 2);
        for (var i = 0; i < Few; i++)
        {
            await server.WaitForWarmAsync(1);
            await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        }

        await server.WaitForQuietAsync(2);
        var latencies = new Latencies();
        for (var i = 0; i < Rounds; i++)
        {
            await server.KillAsync();
            var start = Stopwatch.GetTimestamp();
            await server.StartAgainAsync();
            latencies.Add(Stopwatch.GetElapsedTime(start));
        }

        return (await server.Pandora.ListAsync()).Count == Few
            ? new Result(
                $"{Few} sandboxes and 2 warm microVMs taken over, process start to first answer",
                latencies.Percentile(50) / 1000,
                "s",
                5,
                $"{Rounds} times kill -9")
            : throw new InvalidOperationException("not all sandboxes were adopted");
    }
}
