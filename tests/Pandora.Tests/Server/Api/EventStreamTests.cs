using System.Text;
using System.Text.Json;
using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>Output as events, of commands and of processes.</summary>
public sealed class EventStreamTests
{
    private static readonly TimeSpan Heartbeat = TimeSpan.FromSeconds(15);

    [Fact]
    public async Task A_command_is_streamed_while_it_runs()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await CreateAsync(api);
        await using var events = await ExecAsync(api, id, """{"code": "run"}""");
        var run = guest.Runs.Single();
        var started = await events.NextAsync("started");
        Assert.Equal($$"""{"process_id":"{{run.Id}}","pid":{{run.Pid}},"offset":0}""", started.GetRawText());
        run.Write("hello\n");
        Assert.Equal(("stdout", """{"offset":0,"data":"hello\n"}""", "6"), Flat(await events.NextAsync()));
        run.Write(OutputStream.Stderr, "oh"u8);
        Assert.Equal(("stderr", """{"offset":6,"data":"oh"}""", "8"), Flat(await events.NextAsync()));
        run.EndWith(new ProcessEnd(137) { OomLimit = 4096 });
        var (type, exited, exitId) = (await events.NextAsync())!.Value;
        Assert.Equal(("exited", "8"), (type, exitId));
        Assert.Equal(
            ["exit_code", "offset", "exec_ms", "oom", "memory_limit_bytes"], exited.EnumerateObject().Select(p => p.Name));
        Assert.Null(await events.NextAsync());
        Assert.False(run.IsKilled);
        Assert.Empty(guest.Violations);
        Assert.Equal(0, api.Node.Sandboxes.Get(id).Idle.TotalSeconds);
    }

    [Fact]
    public async Task Input_is_fed_while_output_is_read_and_ends()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await CreateAsync(api);
        var input = new string('x', 300_000);
        await using var events = await ExecAsync(api, id, JsonSerializer.Serialize(new { code = "cat", stdin = input }));
        await events.NextAsync("started");
        var rest = await events.RestAsync();
        Assert.Equal("exited", rest[^1].Type);
        Assert.Equal(input, string.Concat(rest[..^1].Select(e => e.Data.GetProperty("data").GetString())));
    }

    [Fact]
    public async Task A_timeout_is_an_end()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await CreateAsync(api);
        await using var events = await ExecAsync(api, id, """{"code": "run", "timeout": 5}""");
        await events.NextAsync("started");
        api.Node.Time.Advance(TimeSpan.FromSeconds(5));
        var exited = await events.NextAsync("exited");
        Assert.Equal((137, true, "killed"), (
            exited.GetProperty("exit_code").GetInt32(), exited.GetProperty("timed_out").GetBoolean(),
            exited.GetProperty("kill_result").GetString()));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    [InlineData(5)]
    public async Task Characters_that_are_cut_come_whole(int pieceSize)
    {
        const string Text = "aé€😀\n\"\\\u0001<é>";
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        guest.PieceSize = pieceSize;
        await using var events = await ExecAsync(api, id, JsonSerializer.Serialize(new { code = "echo " + Text }));
        var rest = await events.RestAsync();
        var outputs = rest.Where(e => e.Type == "stdout").ToList();
        Assert.Equal(Text + "\n", string.Concat(outputs.Select(e => e.Data.GetProperty("data").GetString())));
        Assert.DoesNotContain(outputs, e => e.Data.TryGetProperty("lossy", out _));
        Assert.Equal($"{Encoding.UTF8.GetByteCount(Text) + 1}", rest[^1].Id);
    }

    [Fact]
    public async Task Bytes_that_are_no_text_are_marked_and_base64_keeps_them()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        await using (var events = await ExecAsync(api, id, """{"code": "bytes 61FF62"}"""))
        {
            await events.NextAsync("started");
            Assert.Equal(("stdout", """{"offset":0,"data":"a�b","lossy":true}""", "3"), Flat(await events.NextAsync()));
        }

        await using (var events = await ExecAsync(api, id, """{"code": "bytes C3", "encoding": "base64"}"""))
        {
            await events.NextAsync("started");
            Assert.Equal(("stdout", """{"offset":0,"data":"ww=="}""", "1"), Flat(await events.NextAsync()));
        }

        // The other output in the middle of a character.
        var process = await StartAsync(api, id);
        var run = guest.RunOf(process);
        run.Write(OutputStream.Stdout, 0xC3);
        run.Write(OutputStream.Stderr, 0x65);
        run.Write(OutputStream.Stdout, 0xA9);
        run.EndWith(0);
        await using var mixed = await OutputAsync(api, id, process);
        Assert.Equal(
            ["started:", "stdout:1", "stderr:2", "stdout:3", "exited:3"], (await mixed.RestAsync()).Select(e => $"{e.Type}:{e.Id}"));
    }

    [Fact]
    public async Task Output_that_is_missing_is_said()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        guest.KeptBytes = 4;
        var process = await StartAsync(api, id);
        var run = guest.RunOf(process);
        run.Write("0123456789");
        await using var events = await OutputAsync(api, id, process);
        await events.NextAsync("started");
        Assert.Equal(("dropped", """{"from":0,"to":6}""", "6"), Flat(await events.NextAsync()));
        Assert.Equal(("stdout", """{"offset":6,"data":"6789"}""", "10"), Flat(await events.NextAsync()));
        run.Write("abcdef");
        Assert.Equal("dropped", (await events.NextAsync())?.Type);
        Assert.Equal("cdef", await events.TextAsync());
        run.Write("g");
        Assert.Equal("g", await events.TextAsync());
        run.Write("hi");
        run.DropTo(19);
        run.EndWith(0);
        Assert.Equal(("dropped", """{"from":17,"to":19}""", "19"), Flat(await events.NextAsync()));
        Assert.Equal(19, (await events.NextAsync("exited")).GetProperty("offset").GetInt64());
    }

    [Fact]
    public async Task A_stream_begins_where_the_client_says()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        var process = await StartAsync(api, id);
        var run = guest.RunOf(process);
        run.Write("0123456789");
        async Task<string?> FirstAsync(string query, params (string, string)[] headers)
        {
            await using var events = await OutputAsync(api, id, process, query, headers);
            await events.NextAsync("started");
            return await events.TextAsync();
        }

        Assert.Equal("0123456789", await FirstAsync(""));
        Assert.Equal("456789", await FirstAsync("?from=4"));
        Assert.Equal("789", await FirstAsync("", ("Last-Event-ID", "7")));
        // A browser reconnects to the same address, with the id that it has.
        Assert.Equal("789", await FirstAsync("?from=4", ("Last-Event-ID", "7")));
        Assert.Equal("789", await FirstAsync("?from=-1", ("Last-Event-ID", "7")));
        await using var now = await OutputAsync(api, id, process, "?from=-1");
        Assert.Equal(10, (await now.NextAsync("started")).GetProperty("offset").GetInt64());
        run.Write("new");
        Assert.Equal("new", await now.TextAsync());
        await using var all = await OutputAsync(api, id, process, "?encoding=base64");
        await all.NextAsync("started");
        Assert.Equal(Convert.ToBase64String("0123456789new"u8), await all.TextAsync());
    }

    [Fact]
    public async Task A_stream_that_does_not_follow_ends_where_the_output_ends_now()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        var process = await StartAsync(api, id);
        async Task<IEnumerable<string>> ReadAsync(string query)
        {
            await using var events = await OutputAsync(api, id, process, query);
            return (await events.RestAsync()).Select(e => $"{e.Type}:{e.Id}");
        }

        Assert.Equal(["started:", "paused:0"], await ReadAsync("?follow=false"));
        guest.RunOf(process).Write("ab");
        Assert.Equal(["started:", "stdout:2", "paused:2"], await ReadAsync("?follow=false"));
        Assert.Equal(["started:", "paused:2"], await ReadAsync("?follow=false&from=2"));
        // It must not wait for the rest of a character.
        guest.RunOf(process).Write(OutputStream.Stdout, 0xC3);
        Assert.Equal(["started:", "stdout:2", "paused:2"], await ReadAsync("?follow=false"));
        Assert.Equal(["started:", "paused:2"], await ReadAsync("?follow=false&from=2"));
    }

    [Fact]
    public async Task A_quiet_stream_has_heartbeats()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        var process = await StartAsync(api, id);
        await using var events = await OutputAsync(api, id, process);
        await events.NextAsync("started");
        for (var i = 0; i < 3; i++)
        {
            var next = events.NextAsync("heartbeat");
            await FakeNode.UntilAsync(() =>
            {
                api.Node.Time.Advance(TimeSpan.FromMilliseconds(10));
                return next.IsCompleted;
            });
            Assert.Equal("{}", (await next).GetRawText());
        }

        guest.RunOf(process).Write("x");
        // The clock may have been moved on once more before the last heartbeat was read.
        var output = await events.NextAsync();
        while (output?.Type == "heartbeat")
        {
            output = await events.NextAsync();
        }

        Assert.Equal(("stdout", "x"), (output?.Type, output?.Data.GetProperty("data").GetString()));
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task Output_that_comes_with_a_heartbeat_is_not_lost()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        var process = await StartAsync(api, id);
        await using var events = await OutputAsync(api, id, process);
        var read = new StringBuilder();
        var reading = Task.Run(async () =>
        {
            while (await events.NextAsync() is { } next && next.Type != "exited")
            {
                Assert.Contains(next.Type, new[] { "started", "stdout", "heartbeat" });
                lock (read)
                {
                    read.Append(next.Type == "stdout" ? next.Data.GetProperty("data").GetString() : "");
                }
            }
        });
        for (var i = 0; i < 300; i++)
        {
            if (i % 2 == 0)
            {
                api.Node.Time.Advance(Heartbeat);
            }

            guest.RunOf(process).Write("x");
            api.Node.Time.Advance(Heartbeat);
            await FakeNode.UntilAsync(() =>
            {
                lock (read)
                {
                    return reading.IsCompleted || read.Length == i + 1;
                }
            });
            Assert.False(reading.IsCompleted);
        }

        guest.RunOf(process).EndWith(0);
        await reading;
    }

    [Fact]
    public async Task The_end_of_the_sandbox_and_of_the_server_are_errors()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        await using (var events = await ExecAsync(api, id, """{"code": "run"}"""))
        {
            await events.NextAsync("started");
            await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
            Assert.Equal("sandbox_not_found", (await events.NextAsync("error")).GetProperty("code").GetString());
            Assert.Null(await events.NextAsync());
        }

        (id, guest) = await CreateAsync(api);
        await using var command = await ExecAsync(api, id, """{"code": "run"}""");
        await command.NextAsync("started");
        var process = await StartAsync(api, id);
        await using var output = await OutputAsync(api, id, process);
        await output.NextAsync("started");
        var stopping = api.Node.Sandboxes.DetachAsync(TimeSpan.Zero);
        Assert.Equal("shutting_down", (await command.NextAsync("error")).GetProperty("code").GetString());
        Assert.Equal(503, (await output.NextAsync("error")).GetProperty("status").GetInt32());
        await stopping;
        Assert.All(guest.Runs, r => Assert.Null(r.End));
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task A_client_that_leaves_ends_its_command_and_no_other_process()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await CreateAsync(api);
        var process = await StartAsync(api, id);
        async Task ReadBrieflyAsync(bool hasOutput)
        {
            await using var command = await ExecAsync(api, id, """{"code": "run"}""");
            await using var output = await OutputAsync(api, id, process);
            await output.NextAsync("started");
            await command.NextAsync("started");
            if (hasOutput)
            {
                guest.Runs[^1].Write("x");
                await command.TextAsync();
            }
        }

        for (var i = 0; i < 20; i++)
        {
            await ReadBrieflyAsync(hasOutput: i % 2 == 0);
            await FakeNode.UntilAsync(() => guest.Runs[^1].IsKilled);
            await FakeNode.UntilAsync(() => guest.RunOf(process).ReaderCount == 0);
        }

        Assert.Null(guest.RunOf(process).End);
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task A_client_that_leaves_in_the_middle_of_its_input_ends_its_command()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await CreateAsync(api);
        var passes = new TaskCompletionSource();
        guest.InputPasses = passes.Task;
        var command = await ExecAsync(api, id, """{"code": "run", "stdin": "some input"}""");
        await command.NextAsync("started");
        await command.DisposeAsync();
        await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, TestContext.Current.CancellationToken);
        passes.SetResult();
        await FakeNode.UntilAsync(() => guest.Runs[0].IsKilled);
    }

    [Theory]
    [InlineData("""{"code": ""}""", 200, null)]
    [InlineData("""{"code": "a\u0000"}""", 400, "code")]
    [InlineData("""{"code": "true", "timeout": 0}""", 400, "timeout")]
    [InlineData("""{"code": "true", "timeout": 1e9}""", 400, "timeout")]
    [InlineData("""{"code": "true", "cwd": ""}""", 400, "cwd")]
    [InlineData("""{"code": "true", "user": "A"}""", 400, "user")]
    [InlineData("""{"code": "true", "env": {"a b": "c"}}""", 400, "env")]
    [InlineData("""{"code": "true", "stdin": "!", "stdin_encoding": "base64"}""", 400, "stdin")]
    [InlineData("""{"code": "true", "encoding": "utf-16"}""", 400, "encoding")]
    [InlineData("""{"code": "nocwd"}""", 400, "cwd")]
    public async Task What_is_wrong_before_the_start_is_a_problem(string body, int status, string? field)
    {
        await using var api = await FakeServer.StartAsync();
        var (id, _) = await CreateAsync(api);
        var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", body, headers: ("Accept", "text/event-stream"));
        Assert.Equal(status, answer.Status);
        Assert.Equal(
            status == 200 ? "text/event-stream" : "application/problem+json", answer.Response.Content.Headers.ContentType?.MediaType);
        Assert.True(field is null || answer.Body.GetProperty("errors").TryGetProperty(field, out _), $"{answer.Body}");
    }

    [Fact]
    public async Task Input_that_is_too_long_is_refused_as_without_events()
    {
        await using var api = await FakeServer.StartAsync();
        var (id, guest) = await CreateAsync(api);
        var body = JsonSerializer.Serialize(new { code = "cat", stdin = new string('x', (10 * 1024 * 1024) + 1) });
        foreach (var accept in new[] { "application/json", "text/event-stream" })
        {
            var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", body, headers: ("Accept", accept));
            Assert.Equal(400, answer.Status);
            Assert.True(answer.Body.GetProperty("errors").TryGetProperty("stdin", out _));
        }

        Assert.Empty(guest.Commands);
    }

    internal static async Task<(string Id, FakeGuest Guest)> CreateAsync(FakeServer api)
    {
        var id = await api.CreateAsync("""{"idle_timeout": 86400}""");
        return (id, api.Node.GuestOf(id));
    }

    internal static async Task<string> StartAsync(FakeServer api, string id, string body = """{"code": "run"}""")
    {
        var started = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/processes", body);
        Assert.Equal(201, started.Status);
        return started.Body.GetProperty("process_id").GetString()!;
    }

    internal static Task<ServerEvents> ExecAsync(FakeServer api, string id, string body) =>
        ServerEvents.OpenAsync(api.Http, HttpMethod.Post, $"/sandboxes/{id}/exec", body);

    internal static Task<ServerEvents> OutputAsync(
        FakeServer api, string id, string process, string query = "", params (string, string)[] headers) =>
        ServerEvents.OpenAsync(api.Http, HttpMethod.Get, $"/sandboxes/{id}/processes/{process}/output{query}", null, headers);

    private static (string? Type, string? Data, string? Id) Flat((string Type, JsonElement Data, string? Id)? item) =>
        (item?.Type, item?.Data.GetRawText(), item?.Id);
}
