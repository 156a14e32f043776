using System.Net;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Tests.Telemetry;

namespace Pandora.Tests.Api;

/// <summary>Requests without a valid key are counted and logged.</summary>
[Collection(nameof(Alone))]
public sealed class UnauthorizedTests
{
    private const string Key = "a-key-of-sixteen-or-more", MetricsKey = "a-key-for-metrics-0123";

    [Fact]
    public async Task Each_unauthorized_request_is_counted_and_logged_without_its_key()
    {
        using var log = new KeptLog();
        await using var server = await FakeServer.StartAsync(
            new ServerOptions { ApiKeys = Key, MetricsKey = MetricsKey },
            onLoopback: true,
            loggers: log);
        foreach (
            var (path, shown, status) in new[]
            {
                ("/sandboxes", null, 401),
                ("/sandboxes", "hunter2-hunter2-hunter2", 401),
                ("/metrics", "hunter2-hunter2-hunter2", 401),
                ("/sandboxes", Key, 200),
                ("/ready", null, 200),
            })
        {
            Assert.Equal(status,
                (await server.SendAsync(HttpMethod.Get, path, headers: shown is null ? [] : [("Authorization", $"Bearer {shown}")]))
                .Status);
        }

        var lines = log.Lines.Where(l => l.Category == typeof(Unauthorized).FullName).Select(l => l.Text);
        Assert.Equal(
            [
                "A request from 127.0.0.1 had no key and was answered with 401",
                "A request from 127.0.0.1 had a wrong key and was answered with 401",
                "A request from 127.0.0.1 had a wrong key and was answered with 401",
            ],
            lines);
        Assert.DoesNotContain(log.Lines, l => l.Text.Contains("hunter2", StringComparison.Ordinal));
        Assert.DoesNotContain(log.Lines, l => l.Text.Contains(Key, StringComparison.Ordinal));
        var (_, _, response) = await server.SendAsync(HttpMethod.Get, "/metrics", headers: ("Authorization", $"Bearer {MetricsKey}"));
        var text = await response.Content.ReadAsStringAsync();
        Assert.Matches("\npandora_unauthorized_total(\\{[^}]*\\})? 3\n", text);
        Assert.Matches("\npandora_connections_refused_total\\{[^}]*reason=\"evicted\"\\} 0\n", text);
        Assert.Matches("\npandora_connections_refused_total\\{[^}]*reason=\"first_byte\"\\} 0\n", text);
        Assert.Matches("\npandora_connections\\{[^}]*state=\"admitted\"\\} 1\n", text);
        Assert.Matches("\npandora_max_connections(\\{[^}]*\\})? [1-9]", text);
    }

    [Fact]
    public void At_most_ten_lines_a_minute_are_logged_and_then_the_number_of_the_others()
    {
        var time = new FakeTime();
        using var log = new KeptLog();
        using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        using var unauthorized = new Unauthorized(new ServerMetrics(
            services.GetRequiredService<System.Diagnostics.Metrics.IMeterFactory>()), time, log.CreateLogger<Unauthorized>());
        for (var i = 0; i < 1000; i++)
        {
            unauthorized.Report(IPAddress.Parse("192.0.2.1"), isKeyShown: true);
        }

        Assert.Equal(10, log.Lines.Count);
        time.Advance(TimeSpan.FromMinutes(1));
        Assert.Equal(
            (11, "990 more requests were answered with 401 within 60 s and were not logged one by one"),
            (log.Lines.Count, log.Lines.Last().Text));
        time.Advance(TimeSpan.FromHours(1));
        unauthorized.Report(null, isKeyShown: false);
        time.Advance(TimeSpan.FromHours(1));
        Assert.Equal((12, "A request from (null) had no key and was answered with 401"), (log.Lines.Count, log.Lines.Last().Text));
    }
}
