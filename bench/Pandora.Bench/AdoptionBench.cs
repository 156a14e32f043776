using Pandora.Client;
using System.Diagnostics;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// From the death of a server with fifty sandboxes to the moment at which another one lets clients in, on the fake VMM, whose guests take
/// 0.2 s to answer; and on the real one with eight.
/// </summary>
internal static class AdoptionBench
{
    private const int Many = 50, Rounds = 5;

    // The fake one is no figure of Firecracker's.
    public static async Task<IReadOnlyList<Result>> RunAsync(Target target) =>
        target.Firecracker is null ? [await OnFakesAsync(), await OnTheRealOneAsync(target)] : [await OnTheRealOneAsync(target)];

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
            : throw new InvalidOperationException($"{node.Sandboxes.Count} of {Many} were taken over");
    }

    private static async Task<Result> OnTheRealOneAsync(Target target)
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
            : throw new InvalidOperationException("not all were taken over");
    }
}
