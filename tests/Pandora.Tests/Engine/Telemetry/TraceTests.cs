using System.Collections.Concurrent;
using System.Diagnostics;
using Pandora.Engine;
using Pandora.Engine.Telemetry;
using Pandora.Fakes;

namespace Pandora.Tests.Telemetry;

public sealed class TraceTests : IDisposable
{
    private readonly ConcurrentBag<Activity> _spans = [];
    private readonly ActivityListener _listener;

    public TraceTests()
    {
        _listener = new ActivityListener
        {
            ShouldListenTo = s => s.Name is EngineTracing.SourceName or "Microsoft.AspNetCore",
            Sample = (ref ActivityCreationOptions<ActivityContext> _) => ActivitySamplingResult.AllDataAndRecorded,
            ActivityStopped = _spans.Add,
        };
        ActivitySource.AddActivityListener(_listener);
    }

    public void Dispose() => _listener.Dispose();

    [Fact]
    public async Task The_spans_of_claim_exec_and_end_are_children_of_their_requests_in_the_clients_trace()
    {
        await using var server = await FakeServer.StartAsync();
        await using var clock = server.Node.RunClock();
        var trace = ActivityTraceId.CreateRandom();
        var client = ActivitySpanId.CreateRandom();
        var headers = new[] { ("traceparent", $"00-{trace}-{client}-01") };
        var created = await server.SendAsync(HttpMethod.Post, "/sandboxes", "{}", headers: headers);
        var id = created.Body.GetProperty("sandbox_id").GetString()!;
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 3"}""", headers: headers);
        await server.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "break"}""", headers: headers);
        await server.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}", headers: headers);
        await FakeNode.UntilAsync(() => Mine(trace).Count == 8);
        var spans = Mine(trace);
        Assert.Equal(
            ["sandbox.claim", "sandbox.end", "sandbox.exec", "sandbox.exec"],
            spans.Where(s => s.Source.Name == EngineTracing.SourceName).Select(s => s.OperationName).Order());
        foreach (var span in spans)
        {
            if (span.Source.Name == EngineTracing.SourceName)
            {
                Assert.Equal("Microsoft.AspNetCore", spans.Single(s => s.SpanId == span.ParentSpanId).Source.Name);
                Assert.Equal(id, span.GetTagItem("pandora.sandbox.id"));
            }
            else
            {
                Assert.Equal(client, span.ParentSpanId);
            }
        }

        var execs = spans.Where(s => s.OperationName == "sandbox.exec").OrderBy(s => s.StartTimeUtc).ToList();
        Assert.Equal(3, execs[0].GetTagItem("pandora.exec.exit_code"));
        Assert.Equal("guest_unreachable", execs[1].GetTagItem("error.type"));
        Assert.Equal(ActivityStatusCode.Error, execs[1].Status);
    }

    [Fact]
    public async Task No_tag_contains_the_code()
    {
        await using var server = await FakeServer.StartAsync();
        var trace = ActivityTraceId.CreateRandom();
        var id = await server.CreateAsync();
        await server.SendAsync(
            HttpMethod.Post,
            $"/sandboxes/{id}/exec",
            """{"code": "echo hunter2", "stdin": "hunter3", "env": {"A": "hunter4"}}""",
            headers: ("traceparent", $"00-{trace}-{ActivitySpanId.CreateRandom()}-01"));
        await FakeNode.UntilAsync(() => Mine(trace).Count == 2);
        Assert.DoesNotContain(Mine(trace).SelectMany(s => s.TagObjects), t => $"{t.Value}".Contains("hunter", StringComparison.Ordinal));
    }

    [Fact]
    public async Task The_span_of_a_reaped_sandbox_has_no_parent_request()
    {
        await using var server = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 1, IdleTimeout = 10 });
        var trace = ActivityTraceId.CreateRandom();
        var created = await server.SendAsync(
            HttpMethod.Post, "/sandboxes", "{}", headers: ("traceparent", $"00-{trace}-{ActivitySpanId.CreateRandom()}-01"));
        var id = created.Body.GetProperty("sandbox_id").GetString()!;
        server.Node.MachineOf(id).Die("a test said so");
        await FakeNode.UntilAsync(() =>
            _spans.Any(s => s.OperationName == "sandbox.end" && (string?)s.GetTagItem("pandora.sandbox.id") == id));
        var end = _spans.Single(s => s.OperationName == "sandbox.end" && (string?)s.GetTagItem("pandora.sandbox.id") == id);
        Assert.NotEqual(trace, end.TraceId);
        Assert.Equal("died", end.GetTagItem("pandora.end.reason"));
    }

    private List<Activity> Mine(ActivityTraceId trace) => [.. _spans.Where(s => s.TraceId == trace)];
}
