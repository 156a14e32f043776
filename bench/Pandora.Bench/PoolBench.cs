using System.Diagnostics;

namespace Pandora.Bench;

/// <summary>Claims and deletions while the pool refills behind them.</summary>
internal static class PoolBench
{
    private const int Rounds = 40;

    public static async Task<IReadOnlyList<Result>> RunAsync(BenchServer server)
    {
        var acquire = new List<double>();
        var delete = new List<double>();
        // The first claims compile the way; a server's life is the rest.
        for (var i = -4; i < Rounds; i++)
        {
            await server.WaitForWarmAsync(1);
            var sandbox = await server.Pandora.CreateAsync();
            var start = Stopwatch.GetTimestamp();
            await sandbox.DisposeAsync();
            if (i >= 0 && sandbox.IsWarm)
            {
                acquire.Add(sandbox.AcquireMs);
                delete.Add(Stopwatch.GetElapsedTime(start).TotalMilliseconds);
            }
        }

        return
        [
            new("acquire p50, pool refilling", acquire.Percentile(0.5), "ms", 1, $"{acquire.Count} claims"),
            new("acquire p99, pool refilling", acquire.Percentile(0.99), "ms", 5, $"{acquire.Count} claims"),
            new("DELETE p50, guest dead and id gone", delete.Percentile(0.5), "ms", 50, $"{delete.Count} deletions, at the client"),
        ];
    }
}
