using System.Net.Http.Headers;
using System.Text.Json;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>The routes of processes: what they do, and how each refuses.</summary>
public sealed class ProcessesApiTests
{
    [Fact]
    public async Task A_process_is_started_listed_shown_fed_signalled_and_awaited()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var started = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/processes", """
            {"args": ["run"], "stdin": true, "merge": true, "terminal": {"columns": 80, "rows": 24}, "keeps_alive": true, "tag": "mine",
             "wait_for_reader": true, "timeout": 3600, "cwd": "/tmp", "env": {"A": "b"}, "user": "1000"}
            """);
        Assert.Equal(201, started.Status);
        var run = guest.Runs.Single();
        Assert.EndsWith($"/sandboxes/{id}/processes/{run.Id}", started.Response.Headers.Location!.ToString());
        Assert.Equal(["run"], run.Spec.Arguments);
        Assert.Equal(
            (null, "/tmp", "1000", true, true, true, true, false, false),
            (run.Spec.Code, run.Spec.Directory, run.Spec.User, run.Spec.HasInput, run.Spec.IsMerged, run.Spec.KeepsAlive,
                run.Spec.WaitsForReader, run.Spec.IsForeground, run.Spec.IsReadOnce));
        Assert.Equal((TimeSpan.FromHours(1), (80, 24)), (run.Spec.TimeLimit!.Value, run.Spec.Terminal!.Value));
        Assert.Equal(
            ["process_id", "pid", "command", "started_at", "state", "foreground", "keeps_alive", "stdin", "terminal", "input_offset",
                "output_begin", "output_end", "tag"],
            started.Body.EnumerateObject().Select(p => p.Name));
        Assert.Equal("running", started.Body.GetProperty("state").GetString());

        var path = $"/sandboxes/{id}/processes/{run.Id}";
        Assert.Equal(204, await InputAsync(api, path, "abc"u8.ToArray()));
        Assert.Equal(204, await InputAsync(api, path, "bcde"u8.ToArray(), "?offset=1"));
        Assert.Equal(409, await InputAsync(api, path, "x"u8.ToArray(), "?offset=6"));
        Assert.Equal("abcde"u8, run.Input);
        Assert.Equal(204, (await api.SendAsync(HttpMethod.Delete, $"{path}/input")).Status);
        Assert.True(run.HasInputEnded);
        Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/resize", """{"columns": 120, "rows": 40}""")).Status);
        Assert.Equal([(120, 40)], run.Sizes);
        run.DiesOfSignals = false;
        foreach (var signal in new[] { "WINCH", "sigwinch", "28" })
        {
            Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/signal", $$"""{"signal": "{{signal}}"}""")).Status);
        }

        Assert.Equal([28, 28, 28], run.Signals);
        Assert.Equal("running", (await api.SendAsync(HttpMethod.Get, $"{path}/wait?timeout=0")).Body.GetProperty("state").GetString());
        var waiting = api.SendAsync(HttpMethod.Get, $"{path}/wait");
        run.EndWith(7);
        var ended = (await waiting).Body;
        Assert.Equal(("exited", 7), (ended.GetProperty("state").GetString(), ended.GetProperty("exit_code").GetInt32()));
        Assert.Equal(5, (await api.SendAsync(HttpMethod.Get, path)).Body.GetProperty("input_offset").GetInt64());
        var listed = (await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}/processes")).Body.EnumerateArray().ToList();
        Assert.Equal(["mine"], listed.Select(p => p.GetProperty("tag").GetString()));
    }

    [Theory]
    [InlineData("{}", "code")]
    [InlineData("""{"code": "run", "args": ["run"]}""", "code")]
    [InlineData("""{"code": "a\u0000"}""", "code")]
    [InlineData("""{"args": [null]}""", "args")]
    [InlineData("""{"args": [""]}""", "args")]
    [InlineData("""{"args": ["a\u0000b"]}""", "args")]
    [InlineData("""{"code": "run", "timeout": 0.5}""", "timeout")]
    [InlineData("""{"code": "run", "timeout": 1e300}""", "timeout")]
    [InlineData("""{"code": "run", "timeout": 86401}""", "timeout")]
    [InlineData("""{"code": "run", "cwd": ""}""", "cwd")]
    [InlineData("""{"code": "run", "user": "-"}""", "user")]
    [InlineData("""{"code": "run", "env": {"=": ""}}""", "env")]
    [InlineData("""{"code": "run", "tag": "a\u0000"}""", "tag")]
    [InlineData("""{"code": "run", "terminal": {"columns": 0, "rows": 24}}""", "terminal.columns")]
    [InlineData("""{"code": "run", "terminal": {"columns": 80, "rows": 65536}}""", "terminal.rows")]
    [InlineData("""{"code": "nocwd"}""", "cwd")]
    public async Task A_bad_start_is_a_400_that_names_the_field(string body, string field)
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        AssertProblem(await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/processes", body), 400, "invalid_request", field);
        Assert.Empty(guest.Runs);
    }

    [Fact]
    public async Task A_tag_and_arguments_are_bounded()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await EventStreamTests.CreateAsync(api);
        foreach (var (body, field) in new (object, string)[]
        {
            (new { code = "run", tag = new string('t', 257) }, "tag"),
            (new { args = Enumerable.Repeat("a", 100_000).ToArray() }, "args"),
            (new { code = new string('c', (1024 * 1024) + 1) }, "code"),
            (new { args = new[] { "a", new string('c', 1024 * 1024) } }, "args"),
        })
        {
            AssertProblem(
                await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/processes", JsonSerializer.Serialize(body)),
                400, "invalid_request", field);
        }
    }

    [Theory]
    [InlineData("GET", "", null)]
    [InlineData("POST", "/input", "x")]
    [InlineData("DELETE", "/input", null)]
    [InlineData("POST", "/signal", """{"signal": "TERM"}""")]
    [InlineData("POST", "/resize", """{"columns": 1, "rows": 1}""")]
    [InlineData("GET", "/output", null)]
    [InlineData("GET", "/wait", null)]
    [InlineData("HEAD", "/output", null)]
    public async Task An_unknown_process_is_a_404_and_so_is_an_unknown_sandbox(string method, string route, string? body)
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await EventStreamTests.CreateAsync(api);
        var type = route == "/input" ? "application/octet-stream" : "application/json";
        foreach (var process in new[] { "unknown", "%C3%BC", "..%2F", new string('x', 500) })
        {
            var answer = await api.SendAsync(new HttpMethod(method), $"/sandboxes/{id}/processes/{process}{route}", body, type);
            Assert.Equal(404, answer.Status);
            Assert.True(method == "HEAD" || answer.Body.GetProperty("code").GetString() == "process_not_found");
        }

        var other = await api.SendAsync(new HttpMethod(method), $"/sandboxes/none/processes/unknown{route}", body, type);
        Assert.Equal(404, other.Status);
        Assert.True(method == "HEAD" || other.Body.GetProperty("code").GetString() == "sandbox_not_found");
    }

    [Theory]
    [InlineData("POST", "/signal", """{"signal": "NOPE"}""", "signal")]
    [InlineData("POST", "/signal", """{"signal": "0"}""", "signal")]
    [InlineData("POST", "/signal", """{"signal": "65"}""", "signal")]
    [InlineData("POST", "/signal", """{"signal": ""}""", "signal")]
    [InlineData("POST", "/signal", """{"signal": null}""", "signal")]
    [InlineData("POST", "/resize", """{"columns": 0, "rows": 1}""", "columns")]
    [InlineData("POST", "/resize", """{"columns": 1, "rows": 70000}""", "rows")]
    [InlineData("GET", "/output?encoding=utf-16", null, "encoding")]
    [InlineData("GET", "/output?stream=both", null, "stream")]
    [InlineData("GET", "/output?from=-2", null, "from")]
    [InlineData("GET", "/output?from=4", null, "from")]
    [InlineData("GET", "/output?from=abc", null, "from")]
    [InlineData("GET", "/output?from=99999999999999999999", null, "from")]
    [InlineData("GET", "/output?follow=perhaps", null, "follow")]
    [InlineData("GET", "/wait?timeout=-1", null, "timeout")]
    [InlineData("GET", "/wait?timeout=NaN", null, "timeout")]
    [InlineData("GET", "/wait?timeout=86401", null, "timeout")]
    [InlineData("GET", "/wait?timeout=soon", null, "timeout")]
    [InlineData("GET", "/attach", null, "Upgrade")]
    [InlineData("POST", "/input?offset=-1", "x", "offset")]
    [InlineData("POST", "/input?offset=x", "x", "offset")]
    public async Task A_bad_value_is_a_400_that_names_it(string method, string route, string? body, string field)
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "terminal": {"columns": 1, "rows": 1}}""");
        guest.Runs[0].Write("abc");
        var type = route.StartsWith("/input", StringComparison.Ordinal) ? "application/octet-stream" : "application/json";
        AssertProblem(
            await api.SendAsync(new HttpMethod(method), $"/sandboxes/{id}/processes/{process}{route}", body, type),
            400, "invalid_request", field);
        Assert.Empty(guest.Runs[0].Signals);
        Assert.Equal(0, guest.Runs[0].ReaderCount);
    }

    [Theory]
    [InlineData("x")]
    [InlineData("-1")]
    [InlineData("4")]
    [InlineData("1.5")]
    public async Task A_bad_last_id_is_a_400(string last)
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id);
        guest.Runs[0].Write("abc");
        var answer = await api.SendAsync(
            HttpMethod.Get, $"/sandboxes/{id}/processes/{process}/output", headers: ("Last-Event-ID", last));
        AssertProblem(answer, 400, "invalid_request", "Last-Event-ID");
    }

    [Fact]
    public async Task What_a_process_cannot_do_is_a_409()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var path = $"/sandboxes/{id}/processes/{await EventStreamTests.StartAsync(api, id)}";
        Assert.Equal(409, await InputAsync(api, path, "x"u8.ToArray()));
        AssertProblem(await api.SendAsync(HttpMethod.Delete, $"{path}/input"), 409, "process_state");
        AssertProblem(await api.SendAsync(HttpMethod.Post, $"{path}/resize", """{"columns": 1, "rows": 1}"""), 409, "process_state");
        guest.Runs[0].EndWith(0);
        AssertProblem(await api.SendAsync(HttpMethod.Post, $"{path}/signal", """{"signal": "TERM"}"""), 409, "process_state");
        Assert.Equal(204, await ReleasedAsync(guest));

        static async Task<int> ReleasedAsync(FakeGuest guest)
        {
            await FakeNode.UntilAsync(() => guest.Runs.All(r => r.ReaderCount == 0));
            return 204;
        }
    }

    [Fact]
    public async Task Head_waits_for_nothing()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id);
        var path = $"/sandboxes/{id}/processes/{process}";
        foreach (var route in new[] { "", "/wait", "/output" })
        {
            var answer = await api.SendAsync(HttpMethod.Head, path + route).WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System);
            Assert.Equal(200, answer.Status);
        }

        var raw = await api.SendAsync(HttpMethod.Head, $"{path}/output", headers: ("Accept", "application/octet-stream"));
        Assert.Equal("0", raw.Response.Headers.GetValues("Pandora-Offset").Single());
        Assert.Equal(200, (await api.SendAsync(HttpMethod.Head, $"/sandboxes/{id}/processes")).Status);
        await FakeNode.UntilAsync(() => guest.Runs[0].ReaderCount == 0);
        Assert.Null(guest.Runs[0].End);
    }

    [Fact]
    public async Task Input_is_raw_bytes_of_any_length_and_comes_as_it_is_sent()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true}""");
        var pipe = new System.IO.Pipelines.Pipe();
        using var content = new PushedContent(pipe.Reader);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/sandboxes/{id}/processes/{process}/input") { Content = content };
        var posting = api.Http.SendAsync(request, TestContext.Current.CancellationToken);
        await pipe.Writer.WriteAsync("first"u8.ToArray(), TestContext.Current.CancellationToken);
        await FakeNode.UntilAsync(() => guest.Runs[0].Input.Length == 5);
        var large = new byte[3_000_000];
        Random.Shared.NextBytes(large);
        await pipe.Writer.WriteAsync(large, TestContext.Current.CancellationToken);
        await pipe.Writer.CompleteAsync();
        using var answer = await posting;
        Assert.Equal(204, (int)answer.StatusCode);
        Assert.Equal([.. "first"u8.ToArray(), .. large], guest.Runs[0].Input);
    }

    [Fact]
    public async Task Requests_of_another_kind_are_refused()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true}""");
        var path = $"/sandboxes/{id}/processes/{process}";
        // Input is of any kind.
        Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/input", "{}", "application/json")).Status);
        Assert.Equal(415, (await api.SendAsync(HttpMethod.Post, $"{path}/signal", "TERM", "text/plain")).Status);
        Assert.Equal(405, (await api.SendAsync(HttpMethod.Delete, path)).Status);
        Assert.Equal(405, (await api.SendAsync(HttpMethod.Get, $"{path}/signal")).Status);
    }

    private static async Task<int> InputAsync(FakeServer api, string path, byte[] bytes, string query = "")
    {
        using var content = new ByteArrayContent(bytes);
        content.Headers.ContentType = new MediaTypeHeaderValue("application/octet-stream");
        using var answer = await api.Http.PostAsync(new Uri($"{path}/input{query}", UriKind.Relative), content);
        return (int)answer.StatusCode;
    }

    // Each write is sent at once.
    private sealed class PushedContent(System.IO.Pipelines.PipeReader reader) : HttpContent
    {
        protected override async Task SerializeToStreamAsync(Stream stream, System.Net.TransportContext? context)
        {
            while (await reader.ReadAsync() is { Buffer.IsEmpty: false } read)
            {
                foreach (var segment in read.Buffer)
                {
                    await stream.WriteAsync(segment);
                }

                await stream.FlushAsync();
                reader.AdvanceTo(read.Buffer.End);
            }
        }

        protected override bool TryComputeLength(out long length)
        {
            length = 0;
            return false;
        }
    }

    private static void AssertProblem(
        (int Status, JsonElement Body, HttpResponseMessage Response) answer, int status, string code, string? field = null)
    {
        Assert.Equal(
            (status, "application/problem+json"), (answer.Status, answer.Response.Content.Headers.ContentType?.MediaType));
        Assert.Equal(code, answer.Body.GetProperty("code").GetString());
        Assert.True(field is null || answer.Body.GetProperty("errors").TryGetProperty(field, out _), $"{answer.Body}");
    }
}
