using System.Diagnostics;
using Microsoft.Extensions.Logging.Abstractions;
using Pandora.Engine.Projects;
using Pandora.Load;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;

namespace Pandora.Bench;

/// <summary>How long the server takes to find a key among ten thousand, a right one and a wrong one.</summary>
internal static class KeyBench
{
    private const int Count = 10_000, Rounds = 20_000;

    public static async Task<IReadOnlyList<Result>> RunAsync()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-bench-").FullName;
        try
        {
            var store = new AccessStore(directory);
            var keys = Enumerable.Range(0, Count).Select(_ => Key.Create(isE2b: false)).ToArray();
            await store.ChangeAsync(f => f with { NeedsKey = true, Keys = [.. keys.Select(EntryOf)] }, TimeProvider.System, default);
            var start = Stopwatch.GetTimestamp();
            using var access = new Access(store, new ServerOptions(), TimeProvider.System, NullLogger<Access>.Instance);
            var reading = Stopwatch.GetElapsedTime(start);
            // The second time counts: the first one compiles.
            Measure(access, keys);
            var right = Measure(access, keys);
            var wrong = Measure(access, [.. keys.Select(k => k[..^1] + "x")]);
            return
            [
                new(
                    "look-up of a key among 10,000 p99, right or wrong",
                    Math.Max(right.Percentile(99), wrong.Percentile(99)) * 1000, "µs", 50,
                    $"right p50 {right.Percentile(50) * 1000:0.0}, p99 {right.Percentile(99) * 1000:0.0} µs; wrong p50 "
                        + $"{wrong.Percentile(50) * 1000:0.0}, p99 {wrong.Percentile(99) * 1000:0.0} µs; the file was read in "
                        + $"{reading.TotalMilliseconds:0} ms"),
            ];
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private static Latencies Measure(Access access, string[] keys)
    {
        var latencies = new Latencies();
        for (var i = 0; i < Rounds; i++)
        {
            var key = keys[i * 7 % keys.Length];
            var start = Stopwatch.GetTimestamp();
            _ = access.Find(key);
            latencies.Add(Stopwatch.GetElapsedTime(start));
        }

        return latencies;
    }

    private static KeyEntry EntryOf(string key)
    {
        var hash = Convert.ToHexStringLower(Key.HashOf(key));
        return new KeyEntry(hash[..Key.IdLength], hash, Project.DefaultName, KeyRole.User, hash, DateTimeOffset.UnixEpoch);
    }
}
