using System.Diagnostics;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.Client;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Load;

namespace Pandora.Bench;

/// <summary>
/// The cost of metrics and traces: <c>true</c> on a server that is scraped every second and traces everything, and on one with both turned
/// off, alternately; and the time of a scrape with many sandboxes.
/// </summary>
internal static class ObservabilityBench
{
    private const int Pairs = 8, Rounds = 40, WarmUps = 10, Scrapes = 100, ManySandboxes = 500;

    public static async Task<IReadOnlyList<Result>> RunAsync(Target target) =>
        [await ExecAsync(target), .. await ScrapeAsync()];

    private static async Task<Result> ExecAsync(Target target)
    {
        await using var collector = await StartCollectorAsync();
        await using var watched = await BenchServer.StartAsync(target, 1, 8124, new()
        {
            ["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.Urls.Single(),
            ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf",
        });
        await using var unwatched = await BenchServer.StartAsync(target, 1, 8125, new() { ["OTEL_SDK_DISABLED"] = "true" });
        // Two guests of one template differ by more than the effect to measure, so each server runs several.
        var pairs = new List<(Sandbox Watched, Sandbox Unwatched)>();
        for (var i = 0; i < Pairs; i++)
        {
            pairs.Add(
                (
                    await watched.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) }),
                    await unwatched.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) })));
            await watched.WaitForWarmAsync(1);
            await unwatched.WaitForWarmAsync(1);
        }

        await watched.WaitForQuietAsync(1);
        using var stop = new CancellationTokenSource();
        var scraping = ScrapeAsync(watched.Pandora, stop.Token);
        Latencies on = new(), off = new();
        for (var i = -WarmUps; i < Rounds; i++)
        {
            foreach (var (first, second) in pairs)
            {
                // The order alternates, so that neither server always comes second.
                foreach (var (sandbox, latencies) in i % 2 == 0 ? new[] { (first, on), (second, off) } : [(second, off), (first, on)])
                {
                    var start = Stopwatch.GetTimestamp();
                    await sandbox.ExecAsync("true");
                    if (i >= 0)
                    {
                        latencies.Add(Stopwatch.GetElapsedTime(start));
                    }

                    await Task.Delay(TimeSpan.FromMilliseconds(40), TimeProvider.System);
                }
            }
        }

        await stop.CancelAsync();
        await scraping;
        return new Result(
            "exec `true` p50, metrics and tracing on / off",
            on.Percentile(50) / off.Percentile(50),
            "×",
            1.03,
            $"{on.Percentile(50):0.0} ms / {off.Percentile(50):0.0} ms, {on.Count} each in {Pairs} sandboxes");
    }

    private static async Task<IReadOnlyList<Result>> ScrapeAsync()
    {
        await using var server = await FakeServer.StartAsync(
            options: new EngineOptions { PoolSize = 4, MaxSandboxes = ManySandboxes }, onLoopback: true);
        using var pandora = new PandoraClient(
            server.Http, new PandoraClientOptions { MaxRetryTime = TimeSpan.Zero, KeepAlive = false });
        for (var i = 0; i < ManySandboxes; i++)
        {
            await (await pandora.CreateAsync()).ExecAsync("exit 0");
        }

        var latencies = new Latencies();
        var size = 0;
        for (var i = -20; i < Scrapes; i++)
        {
            // The exporter caches an answer for 300 ms. Wait longer, so that each scrape makes a new one.
            await Task.Delay(TimeSpan.FromMilliseconds(350), TimeProvider.System);
            var start = Stopwatch.GetTimestamp();
            size = (await pandora.GetMetricsAsync()).Length;
            if (i >= 0)
            {
                latencies.Add(Stopwatch.GetElapsedTime(start));
            }
        }

        return
        [
            new(
                $"`/metrics` with {ManySandboxes} sandboxes on the fake VMM, p50",
                latencies.Percentile(50),
                "ms",
                20,
                $"{Scrapes} scrapes of {size / 1024} KiB"),
            new(
                $"`/metrics` with {ManySandboxes} sandboxes on the fake VMM, p99",
                latencies.Percentile(99),
                "ms",
                20,
                $"{Scrapes} scrapes of {size / 1024} KiB"),
        ];
    }

    private static async Task ScrapeAsync(PandoraClient pandora, CancellationToken cancellationToken)
    {
        using var timer = new PeriodicTimer(TimeSpan.FromSeconds(1));
        try
        {
            while (await timer.WaitForNextTickAsync(cancellationToken))
            {
                await pandora.GetMetricsAsync(cancellationToken);
            }
        }
        catch (OperationCanceledException)
        {
            // The measurement is finished.
        }
    }

    private static async Task<WebApplication> StartCollectorAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        var app = builder.Build();
        app.MapPost("/v1/traces", async (HttpRequest request) => await request.Body.CopyToAsync(Stream.Null));
        await app.StartAsync();
        return app;
    }
}
