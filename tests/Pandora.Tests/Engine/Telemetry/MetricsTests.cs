using System.Text.RegularExpressions;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Telemetry;

/// <summary>
/// The collection of tests that run alone. Tests that read metrics need it, because every exporter in the process
/// exports the meters of all servers.
/// </summary>
[CollectionDefinition(nameof(Alone), DisableParallelization = true)]
public sealed class Alone;

[Collection(nameof(Alone))]
public sealed partial class MetricsTests
{
    // Longer than the exporter caches an answer.
    private static readonly TimeSpan CacheTime = TimeSpan.FromMilliseconds(350);

    [Fact]
    public async Task A_thousand_sandboxes_add_no_series()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 2, MaxSandboxes = 2000 });
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{await server.CreateAsync()}/exec", """{"code": "exit 0"}""");
        await server.SendAsync(HttpMethod.Delete, $"/sandboxes/{await server.CreateAsync()}");
        await server.SendAsync(HttpMethod.Get, "/metrics");
        var before = await SeriesAsync(server);
        for (var i = 0; i < 1000; i++)
        {
            await server.SendAsync(HttpMethod.Post, $"/sandboxes/{await server.CreateAsync()}/exec", """{"code": "exit 0"}""");
        }

        Assert.Equal(1001, server.Node.Sandboxes.Count);
        Assert.Equal(before, await SeriesAsync(server));
        Assert.Contains(before, s => s.StartsWith("pandora_slots_held", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Failures_are_counted_by_operation_and_code()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 1, MaxSandboxes = 1 });
        await using var clock = server.Node.RunClock();
        var id = await server.CreateAsync();
        await server.SendAsync(HttpMethod.Post, "/sandboxes");
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "break"}""");
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "crash"}""");
        await server.SendAsync(HttpMethod.Delete, "/sandboxes/nosuchsandbox");
        var text = await server.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative));
        foreach (
            var (operation, code) in new[]
            {
                ("create", "sandbox_limit"),
                ("exec", "guest_unreachable"),
                ("exec", "internal_error"),
                ("delete", "sandbox_not_found"),
            })
        {
            Assert.Matches($"pandora_failures_total\\{{[^}}]*code=\"{code}\",operation=\"{operation}\"\\}} 1\n", text);
        }

        Assert.Matches("pandora_failures_total\\{[^}]*code=\"pool_empty\",operation=\"create\"\\} 0\n", text);
    }

    [Theory]
    [InlineData("", "", 200, 200)]
    [InlineData("a-key-for-the-api-0123", "", 401, 401)]
    [InlineData("", "a-key-for-metrics-0123", 200, 401)]
    [InlineData("a-key-for-the-api-0123", "a-key-for-metrics-0123", 401, 401)]
    public async Task The_key_for_metrics_opens_nothing_else(string apiKey, string metricsKey, int apiWithout, int metricsWithout)
    {
        await using var server = await FakeServer.StartAsync(new ServerOptions { ApiKeys = apiKey, MetricsKey = metricsKey });
        Assert.Equal(apiWithout, (await server.SendAsync(HttpMethod.Get, "/sandboxes")).Status);
        Assert.Equal(metricsWithout, (await server.SendAsync(HttpMethod.Get, "/metrics")).Status);
        if (metricsKey.Length > 0)
        {
            Assert.Equal(
                200, (await server.SendAsync(HttpMethod.Get, "/metrics", headers: ("Authorization", $"Bearer {metricsKey}"))).Status);
            foreach (var spelling in new[] { "/metrics/", "/METRICS", "/metrics/x", "/Metrics?a=b" })
            {
                Assert.Equal(401, (await server.SendAsync(HttpMethod.Get, spelling)).Status);
            }

            Assert.Equal(
                apiWithout == 401 ? 403 : apiWithout,
                (await server.SendAsync(HttpMethod.Get, "/sandboxes", headers: ("Authorization", $"Bearer {metricsKey}"))).Status);
        }

        if (apiKey.Length > 0)
        {
            Assert.Equal(200, (await server.SendAsync(HttpMethod.Get, "/metrics", headers: ("X-API-Key", apiKey))).Status);
        }
    }

    [Theory]
    [InlineData("http://127.0.0.1:9464", "", null)]
    [InlineData("", "", null)]
    [InlineData("http://192.0.2.7:9464", "a-key-for-metrics-0123", null)]
    [InlineData("http://192.0.2.7:9464", "", "PANDORA_METRICS_KEY")]
    [InlineData("http://0.0.0.0:9464", "", "PANDORA_METRICS_KEY")]
    [InlineData("http://127.0.0.1:9464", "short", "16 characters")]
    [InlineData("http://127.0.0.1:8000", "", "choose another")]
    [InlineData("9464", "", "is not an address")]
    [InlineData("http://127.0.0.1:0", "", "is not an address")]
    [InlineData("https://127.0.0.1:9464", "", "is not an address")]
    public void A_second_address_is_checked(string listen, string key, string? words)
    {
        var options = new ServerOptions { MetricsListen = listen, MetricsKey = key };
        if (words is null)
        {
            Assert.Equal(listen.Length == 0, MetricsListener.Check(options, options.Keys.Count > 0) is null);
        }
        else
        {
            Assert.Contains(words, Assert.Throws<StartupException>(() => MetricsListener.Check(options, options.Keys.Count > 0)).Message);
        }
    }

    private static async Task<IReadOnlyList<string>> SeriesAsync(FakeServer server)
    {
        await Task.Delay(CacheTime, TimeProvider.System);
        var text = await server.Http.GetStringAsync(new Uri("/metrics", UriKind.Relative));
        return
        [
            .. text.Split('\n').Where(l => l.Length > 0 && l[0] != '#').Select(l => Value().Replace(l, "")).Order(StringComparer.Ordinal),
        ];
    }

    [GeneratedRegex(@" [^ }]+( \d+)?$")]
    private static partial Regex Value();
}
