using Pandora.Client;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// Compares <c>true</c> in microVMs that were warm for ten minutes with <c>true</c> in new ones. It takes ten minutes, so it runs only on
/// request.
/// </summary>
internal static class AgedBench
{
    private const int PoolSize = 2, Rounds = 40;
    private static readonly TimeSpan Age = TimeSpan.FromMinutes(10);

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target)
    {
        await using var server = await BenchServer.StartAsync(target, PoolSize);
        await server.WaitForSnapshotAsync();
        await server.WaitForWarmAsync(PoolSize);
        // End the first microVMs, because they may have been booted.
        for (var i = 0; i < PoolSize; i++)
        {
            await (await server.Pandora.CreateAsync()).DisposeAsync();
        }

        await server.WaitForWarmAsync(PoolSize);
        await Task.Delay(Age, TimeProvider.System);
        var aged = await ClaimAsync(server);
        await server.WaitForQuietAsync(PoolSize);
        var fresh = await ClaimAsync(server);
        await server.WaitForQuietAsync(PoolSize);
        Latencies old = new(), young = new(), oldFirst = new(), youngFirst = new();
        for (var i = 0; i < Rounds; i++)
        {
            foreach (var (sandboxes, all, first) in new[] { (aged, old, oldFirst), (fresh, young, youngFirst) })
            {
                foreach (var sandbox in sandboxes)
                {
                    var took = (await sandbox.ExecAsync("true")).Duration.TotalMilliseconds;
                    (i == 0 ? first : all).AddMs(took);
                }
            }
        }

        await Task.WhenAll(aged.Concat(fresh).Select(s => s.DisposeAsync().AsTask()));
        return
        [
            new(
                $"`true` in a microVM that sat warm for {Age.TotalMinutes:0} minutes / in a fresh one, p50",
                old.Percentile(50) / young.Percentile(50),
                "×",
                1.2,
                $"{old.Percentile(50):0.0} ms / {young.Percentile(50):0.0} ms; first command {oldFirst.Percentile(50):0.0} ms / "
                    + $"{youngFirst.Percentile(50):0.0} ms"),
        ];
    }

    private static Task<Sandbox[]> ClaimAsync(BenchServer server) =>
        Task.WhenAll(
            Enumerable
                .Range(0, PoolSize)
                .Select(_ => server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) })));
}
