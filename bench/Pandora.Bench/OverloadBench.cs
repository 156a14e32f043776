using System.Diagnostics;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// Ten times the accepted load: accepted requests must be served as fast as before, other requests must be refused at once, and the
/// server's memory must not grow. The API, pool and registry are real, the guests are fakes. Client and server share the processors.
/// </summary>
internal static class OverloadBench
{
    private const int Seconds = 8, Rounds = 4, Accepted = 36, Most = 40;

    public static async Task<IReadOnlyList<Result>> RunAsync()
    {
        await RunAsync(Accepted * 10, 3, new Run());
        Run calm = new(), flooded = new();
        for (var i = 0; i < Rounds; i++)
        {
            await RunAsync(Accepted, Seconds, calm);
            await RunAsync(Accepted * 10, Seconds, flooded);
        }

        return
        [
            new(
                "accepted requests p99 at 10 × what is accepted / at 1 ×",
                flooded.Served.Percentile(99) / calm.Served.Percentile(99),
                "×",
                2,
                $"{flooded.Served.Percentile(99):0.0} ms / {calm.Served.Percentile(99):0.0} ms; served {flooded.Served.Count} / "
                    + $"{calm.Served.Count}, refused {flooded.Refused} / {calm.Refused} (all with Retry-After: "
                    + $"{(flooded.AllHaveRetryAfter ? "yes" : "no")})"),
            new(
                "memory after 10 × what is accepted / before (managed heap)",
                flooded.MemoryAfter / flooded.MemoryBefore,
                "×",
                1.1,
                $"{flooded.MemoryAfter / 1048576:0.0} MiB / {flooded.MemoryBefore / 1048576:0.0} MiB"),
        ];
    }

    // An open loop: each request arrives when it is due, independent of earlier ones. Sandboxes live for 0.5 s to 1.5 s, and forty may
    // exist at once, which is enough for nearly all requests of the calm run.
    private static async Task RunAsync(int rate, int seconds, Run run)
    {
        await using var server = await FakeServer.StartAsync(
            options: new EngineOptions
            {
                PoolSize = Most,
                MaxSandboxes = Most,
                MaxWaiting = 16,
            },
            onLoopback: true);
        run.MemoryBefore = Memory();
        var start = Stopwatch.GetTimestamp();
        var running = new List<Task>();
        for (var i = 0; i < rate * seconds; i++)
        {
            var wait = TimeSpan.FromSeconds((double)i / rate) - Stopwatch.GetElapsedTime(start);
            if (wait > TimeSpan.Zero)
            {
                await Task.Delay(wait, TimeProvider.System);
            }

            running.Add(OneAsync(server.Http, run));
        }

        await Task.WhenAll(running);
        run.MemoryAfter = Memory();
    }

    private static async Task OneAsync(HttpClient http, Run run)
    {
        var start = Stopwatch.GetTimestamp();
        using var created = await http.PostAsJsonAsync(
            new Uri("/sandboxes", UriKind.Relative), new CreateSandboxRequest(), PandoraJson.Default.CreateSandboxRequest);
        if (created.StatusCode is HttpStatusCode.ServiceUnavailable or HttpStatusCode.TooManyRequests)
        {
            Interlocked.Increment(ref run.Refused);
            run.AllHaveRetryAfter &= created.Headers.RetryAfter is not null;
            return;
        }

        var sandbox = JsonSerializer.Deserialize(await created.Content.ReadAsStringAsync(), PandoraJson.Default.SandboxCreated)!;
        using (
            await http.PostAsJsonAsync(
                new Uri($"/sandboxes/{sandbox.SandboxId}/exec", UriKind.Relative),
                new ExecRequest("echo hello"),
                PandoraJson.Default.ExecRequest))
        {
            run.Served.Add(Stopwatch.GetElapsedTime(start));
        }

        await Task.Delay(TimeSpan.FromSeconds(0.5 + Random.Shared.NextDouble()), TimeProvider.System);
        using var deleted = await http.DeleteAsync(new Uri($"/sandboxes/{sandbox.SandboxId}", UriKind.Relative));
    }

    private static double Memory()
    {
        GC.Collect();
        GC.WaitForPendingFinalizers();
        return GC.GetTotalMemory(forceFullCollection: true);
    }

    private sealed class Run
    {
        public int Refused;

        public Latencies Served { get; } = new();

        public bool AllHaveRetryAfter { get; set; } = true;

        public double MemoryBefore { get; set; }

        public double MemoryAfter { get; set; }
    }
}
