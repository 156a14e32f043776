using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Google.Protobuf;
using Pandora.HostTests.Monitoring.Otlp;
using Pandora.TestHost;

namespace Pandora.HostTests.Monitoring;

/// <summary>The spans that a real server sends to a collector, and the log lines that it writes, about a sandbox's life.</summary>
public sealed class TraceTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Spans_and_json_log_lines_have_the_trace_id_and_do_not_contain_the_commands()
    {
        await using var collector = await OtlpReceiver.StartAsync(_world.Host, 4318);
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_POOL_SIZE"] = "1",
                ["PANDORA_LOG_FORMAT"] = "json",
                ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318",
                ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf",
                ["OTEL_BSP_SCHEDULE_DELAY"] = "200",
            });
        var trace = ActivityTraceId.CreateRandom();
        var client = ActivitySpanId.CreateRandom();
        var created = await SendAsync(server, HttpMethod.Post, "/sandboxes", "{}", trace, client);
        var id = created.GetProperty("sandbox_id").GetString()!;
        var done = await SendAsync(server, HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "echo hunter2"}""", trace, client);
        Assert.Equal("hunter2\n", done.GetProperty("stdout").GetString());
        await SendAsync(server, HttpMethod.Delete, $"/sandboxes/{id}?receipt=true", null, trace, client);

        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!collector.Spans.Any(s => s.Span.Name == "sandbox.end"))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }

        await server.StopAsync();
        var all = collector.Spans.ToList();
        Assert.All(all, s => Assert.Equal("pandora", s.Service));
        var mine = all.Select(s => s.Span).Where(s => Hex(s.TraceId) == trace.ToString()).ToList();
        Assert.Equal(6, mine.Count);
        foreach (var name in new[] { "sandbox.claim", "sandbox.exec", "sandbox.end" })
        {
            var span = mine.Single(s => s.Name == name);
            Assert.Equal(id, Attribute(span, "pandora.sandbox.id"));
            var request = mine.Single(s => s.SpanId.Equals(span.ParentSpanId));
            Assert.Equal(client.ToString(), Hex(request.ParentSpanId));
            Assert.True(request.StartTimeUnixNano <= span.StartTimeUnixNano && span.EndTimeUnixNano <= request.EndTimeUnixNano);
        }

        // The boot has no parent request. The claim's span links to it.
        var link = Assert.Single(mine.Single(s => s.Name == "sandbox.claim").Links);
        var boot = all.Select(s => s.Span).Single(s => s.Name == "microvm.boot" && s.SpanId.Equals(link.SpanId));
        Assert.Empty(boot.ParentSpanId);
        Assert.Equal(id, Attribute(boot, "pandora.sandbox.id"));
        var steps = all.Select(s => s.Span)
            .Where(s => s.ParentSpanId.Equals(boot.SpanId))
            .OrderBy(s => s.StartTimeUnixNano)
            .Select(s => s.Name);
        // On a slow host the first microVM may be booted, before the snapshot is loaded.
        string[] last = Attribute(boot, "pandora.start") == "snapshot" ? ["vmm", "agent", "guest", "warmup"] : ["vmm", "guest", "clock"];
        Assert.Equal(((string[])["slot", "record", "disk", .. last]).Select(s => $"microvm.boot.{s}"), steps);

        var lines = server.Log.Split('\n', StringSplitOptions.RemoveEmptyEntries).Select(l => JsonDocument.Parse(l).RootElement).ToList();
        var audit = lines
            .Where(l =>
                l.GetProperty("Category").GetString() == "Pandora.Audit"
                && l.GetProperty("State").GetProperty("SandboxId").GetString() == id)
            .ToList();
        Assert.Equal(["create", "exec", "delete"], audit.Select(l => l.GetProperty("Message").GetString()!.Split(' ')[0]));
        Assert.All(
            audit,
            l =>
                Assert.Contains(
                    l.GetProperty("Scopes").EnumerateArray(),
                    s => s.TryGetProperty("TraceId", out var t) && t.GetString() == trace.ToString()));
        Assert.All(
            audit,
            l =>
                Assert.Contains(
                    l.GetProperty("Scopes").EnumerateArray(), s => s.TryGetProperty("Client", out var c) && c.GetString() == "127.0.0.1"));
        Assert.DoesNotContain("hunter2", server.Log);
        Assert.DoesNotContain(all, s => Encoding.UTF8.GetString(s.Span.ToByteArray()).Contains("hunter2", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_a_reachable_collector_the_server_works_and_only_traces_are_lost()
    {
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_POOL_SIZE"] = "1",
                ["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://127.0.0.1:4318",
                ["OTEL_EXPORTER_OTLP_PROTOCOL"] = "http/protobuf",
            });
        await using var sandbox = await server.Pandora.CreateAsync();
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
    }

    [Fact]
    public async Task With_telemetry_off_the_metrics_address_serves_no_route()
    {
        await using var server = await ServerProcess.StartAsync(
            _world,
            new()
            {
                ["PANDORA_POOL_SIZE"] = "1",
                ["OTEL_SDK_DISABLED"] = "true",
                ["PANDORA_METRICS_LISTEN"] = "http://0.0.0.0:9464",
                ["PANDORA_METRICS_KEY"] = "a-key-for-metrics-0123",
            });
        foreach (var (path, status) in new[] { ("/metrics", 401), ("/sandboxes", 404), ("/health", 404) })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, new Uri($"http://127.0.0.1:9464{path}"));
            request.Headers.Host = "localhost";
            using var response = await server.Http.SendAsync(request);
            Assert.Equal((path, status), (path, (int)response.StatusCode));
        }

        await using var sandbox = await server.Pandora.CreateAsync();
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
    }

    private static async Task<JsonElement> SendAsync(
        ServerProcess server, HttpMethod method, string path, string? body, ActivityTraceId trace, ActivitySpanId parent)
    {
        using var request = new HttpRequestMessage(method, path)
        {
            Content = body is null ? null : new StringContent(body, Encoding.UTF8, "application/json"),
        };
        request.Headers.Add("traceparent", $"00-{trace}-{parent}-01");
        using var response = await server.Http.SendAsync(request);
        Assert.True(response.IsSuccessStatusCode, server.Log);
        return JsonDocument.Parse(await response.Content.ReadAsStringAsync()).RootElement;
    }

    private static string Hex(ByteString bytes) => Convert.ToHexStringLower(bytes.Span);

    private static string Attribute(Span span, string name) => span.Attributes.Single(a => a.Key == name).Value.StringValue;
}
