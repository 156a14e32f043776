using System.Collections.Concurrent;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Fakes;

namespace Pandora.Tests.Mcp;

/// <summary>Commands by MCP: their output, handles, waits, progress and cancellation.</summary>
public sealed class RunToolTests
{
    [Fact]
    public async Task A_call_that_names_no_sandbox_makes_one_and_says_which()
    {
        await using var world = await McpWorld.StartAsync();
        var result = await world.CallAsync("run", new { command = "echo hi" });
        var answer = result.StructuredContent!.Value;
        var id = answer.GetProperty("sandbox").GetString()!;
        Assert.Equal(
            (true, "ended", "ended", 0, "hi\n", 3),
            (answer.GetProperty("new_sandbox").GetBoolean(), answer.GetProperty("state").GetString(),
                answer.GetProperty("reason").GetString(), answer.GetProperty("exit_code").GetInt32(),
                answer.GetProperty("guest").GetProperty("output").GetString(),
                answer.GetProperty("cursor").GetInt32()));
        Assert.Equal($"exit code 0; new sandbox {id}", McpWorld.TextOf(result));
        var guest = (TextContentBlock)result.Content[1];
        Assert.Equal(("hi\n", "guest"), (guest.Text, guest.Meta!["pandora/from"]!.GetValue<string>()));
        Assert.Equal(900, world.Server.Node.Sandboxes.List().Single().Lifetime.Idle.TotalSeconds);
        var again = await world.DoAsync("run", new { command = "exit 3", sandbox = id });
        Assert.Equal((false, 3), (again.GetProperty("new_sandbox").GetBoolean(), again.GetProperty("exit_code").GetInt32()));
        Assert.Single(world.Server.Node.Sandboxes.List());
    }

    [Fact]
    public async Task A_call_that_fails_leaves_no_new_sandbox()
    {
        await using var world = await McpWorld.StartAsync();
        await using var clock = world.Server.Node.RunClock();
        Assert.Equal("guest_unreachable", (await world.FailAsync("run", new { command = "break" })).Code);
        Assert.Equal("cwd", (await world.FailAsync("run", new { command = "nocwd" })).Field);
        var (code, _, text) = await world.FailAsync("run", new { command = "crash" });
        Assert.Equal("internal_error", code);
        Assert.DoesNotContain("secret", text, StringComparison.Ordinal);
        Assert.Empty(world.Server.Node.Sandboxes.List());
    }

    [Fact]
    public async Task A_command_that_runs_on_gets_a_handle_that_reads_to_its_end()
    {
        await using var world = await McpWorld.StartAsync();
        var calling = world.CallAsync("run", new { command = "run", wait = 5 });
        var run = await RunAsync(world);
        run.Write("one\n");
        await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd, "it is read");
        await using var clock = world.Server.Node.RunClock();
        var answer = (await calling).StructuredContent!.Value;
        var handle = answer.GetProperty("process").GetString()!;
        Assert.Equal(("running", "time", 4), (answer.GetProperty("state").GetString(), answer.GetProperty("reason").GetString(),
            answer.GetProperty("cursor").GetInt32()));
        Assert.False(run.IsKilled);
        run.Write("two\n");
        run.EndWith(7);
        var read = await world.DoAsync("process_read", new { process = handle, cursor = 4 });
        Assert.Equal(
            ("ended", 7, "two\n", 8),
            (read.GetProperty("state").GetString(), read.GetProperty("exit_code").GetInt32(),
                read.GetProperty("guest").GetProperty("output").GetString(), read.GetProperty("cursor").GetInt32()));
    }

    [Theory]
    [InlineData("run")]
    [InlineData("process_read")]
    public async Task No_answer_comes_after_fifty_seconds_whatever_happens(string tool)
    {
        await using var world = await McpWorld.StartAsync();
        var started = await world.DoAsync("process_start", new { command = "run" });
        var (id, handle) = (started.GetProperty("sandbox").GetString()!, started.GetProperty("process").GetString()!);
        // A guest that answers nothing any more.
        world.Server.Node.GuestOf(id).Answers = new TaskCompletionSource().Task;
        var start = world.Server.Node.Time.GetTimestamp();
        var calling = tool == "run"
            ? world.CallAsync("run", new { command = "run", sandbox = id })
            : world.CallAsync("process_read", new { process = handle });
        await using var clock = world.Server.Node.RunClock();
        Assert.True((await calling).IsError);
        // The clock runs on while the answer comes.
        Assert.InRange(world.Server.Node.Time.GetElapsedTime(start).TotalSeconds, 46, 90);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_cancelled_call_kills_the_command_or_ends_its_new_sandbox(bool isNew)
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = isNew ? null : await world.Server.CreateAsync();
        using var cancelling = new CancellationTokenSource();
        var calling = world.CallAsync("run", new { command = "run", sandbox }, cancellationToken: cancelling.Token);
        var run = await RunAsync(world);
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => calling);
        await FakeNode.UntilAsync(
            () => isNew ? world.Server.Node.Sandboxes.List().Count == 0 : run.IsKilled, "the command is killed, or its sandbox has ended");
    }

    [Fact]
    public async Task A_cancelled_read_leaves_its_process_alone()
    {
        await using var world = await McpWorld.StartAsync();
        var started = await world.DoAsync("process_start", new { command = "run" });
        var run = await RunAsync(world);
        using var cancelling = new CancellationTokenSource();
        var calling = world.CallAsync(
            "process_read", new { process = started.GetProperty("process").GetString() }, cancellationToken: cancelling.Token);
        await FakeNode.UntilAsync(() => run.ReaderCount == 1, "it is read");
        await cancelling.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => calling);
        await FakeNode.UntilAsync(() => run.ReaderCount == 0, "it is read no more");
        Assert.False(run.IsKilled);
    }

    [Fact]
    public async Task Progress_carries_the_last_line()
    {
        await using var world = await McpWorld.StartAsync();
        var heard = new ConcurrentQueue<string>();
        var calling = world.CallAsync("run", new { command = "run" }, new Heard(heard));
        var run = await RunAsync(world);
        run.Write("one\ntwo\n");
        await FakeNode.UntilAsync(() => heard.Contains("guest: two"), "the last line is reported");
        run.Write("three\n");
        await using var clock = world.Server.Node.RunClock();
        await FakeNode.UntilAsync(() => heard.Contains("guest: three"), "the next line is reported a second later");
        run.EndWith(0);
        Assert.Equal("one\ntwo\nthree\n", (await calling).StructuredContent!.Value.GetProperty("guest").GetProperty("output").GetString());
    }

    [Theory]
    [InlineData("""{"until_text": "ready"}""", "not yet\nrea", "dy\nmore", "text")]
    [InlineData("""{"until_silence": 2}""", "a", "b", "silence")]
    [InlineData("{}", "a", "b", "output")]
    [InlineData("""{"to_cursor": 3}""", "a", "bcdef", "to_cursor")]
    public async Task A_read_waits_for_what_was_asked(string wanted, string first, string second, string reason)
    {
        await using var world = await McpWorld.StartAsync();
        var started = await world.DoAsync("process_start", new { command = "run" });
        var run = await RunAsync(world);
        run.Write(first + second);
        var arguments = new Dictionary<string, object?>
        {
            ["process"] = started.GetProperty("process").GetString(),
            ["wait"] = 40,
        };
        foreach (var property in System.Text.Json.JsonDocument.Parse(wanted).RootElement.EnumerateObject())
        {
            arguments[property.Name] = property.Value;
        }

        var calling = world.CallAsync("process_read", arguments);
        await FakeNode.UntilAsync(() => calling.IsCompleted || run.ReadTo == run.OutputEnd, "it is read");
        await using var clock = world.Server.Node.RunClock();
        var answer = (await calling).StructuredContent!.Value;
        Assert.Equal(reason, answer.GetProperty("reason").GetString());
        var output = answer.GetProperty("guest").GetProperty("output").GetString()!;
        Assert.Equal(reason == "to_cursor" ? "abc" : first + second, output);
        Assert.Equal(output.Length, answer.GetProperty("cursor").GetInt32());
    }

    [Fact]
    public async Task Input_reaches_the_process_and_its_end_too()
    {
        await using var world = await McpWorld.StartAsync();
        Assert.Equal("abc", (await world.DoAsync("run", new { command = "cat", stdin = "abc" }))
            .GetProperty("guest").GetProperty("output").GetString());
        var started = await world.DoAsync("process_start", new { command = "run", input = true });
        var handle = started.GetProperty("process").GetString()!;
        var run = world.Server.Node.GuestOf(started.GetProperty("sandbox").GetString()!).Runs.Single();
        Assert.Equal(3, (await world.DoAsync("process_input", new { process = handle, text = "abc", end = true }))
            .GetProperty("bytes").GetInt32());
        Assert.Equal(("abc", true), (System.Text.Encoding.UTF8.GetString(run.Input), run.HasInputEnded));
        await world.DoAsync("process_signal", new { process = handle, signal = "int" });
        Assert.Equal([2], run.Signals);
    }

    private static async Task<FakeRun> RunAsync(McpWorld world)
    {
        FakeRun? run = null;
        await FakeNode.UntilAsync(() =>
        {
            run = world.Server.Node.Sandboxes.List().SelectMany(s => world.Server.Node.GuestOf(s.Id).Runs).LastOrDefault();
            return run is not null;
        }, "the command has started");
        return run!;
    }

    // The usual Progress<T> reports later, on another thread.
    private sealed class Heard(ConcurrentQueue<string> messages) : IProgress<ProgressNotificationValue>
    {
        public void Report(ProgressNotificationValue value) => messages.Enqueue(value.Message!);
    }
}
