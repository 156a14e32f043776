using System.Text;
using System.Text.Json;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.Mcp;

/// <summary>What answers about processes say that is easily left out: what was lost, cut, refused, or is not known.</summary>
public sealed class ProcessAnswerTests
{
    [Fact]
    public async Task Output_that_the_sandbox_dropped_after_the_end_is_lost_and_not_none()
    {
        await using var world = await McpWorld.StartAsync();
        var (process, run) = await StartAsync(world);
        run.Write("0123456789");
        run.EndWith(0);
        run.DropTo(10);
        var answer = await world.DoAsync("process_read", new { process, cursor = 2 });
        Assert.Equal(
            ("ended", 8, 10, ""),
            (answer.GetProperty("state").GetString(), answer.GetProperty("lost_bytes").GetInt32(), answer.GetProperty("cursor").GetInt32(),
                OutputOf(answer)));
        var until = await world.DoAsync("process_read", new { process, cursor = 2, to_cursor = 6 });
        Assert.Equal((4, 6), (until.GetProperty("lost_bytes").GetInt32(), until.GetProperty("cursor").GetInt32()));
    }

    [Fact]
    public async Task Of_what_is_cut_only_that_is_offered_which_the_sandbox_still_has()
    {
        await using var world = await McpWorld.StartAsync();
        var (process, run) = await StartAsync(world);
        run.Write(new string('a', 1000));
        var calling = world.DoAsync("process_read", new { process, max_chars = 200, until_text = "never", wait = 5 });
        await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd, "it is read");
        run.DropTo(500);
        await using var clock = world.Server.Node.RunClock();
        var answer = await calling;
        var cut = answer.GetProperty("cut");
        Assert.Equal(
            (400, 500, 900, 400),
            (cut.GetProperty("bytes").GetInt32(), cut.GetProperty("cursor").GetInt32(), cut.GetProperty("to_cursor").GetInt32(),
                answer.GetProperty("lost_bytes").GetInt32()));
    }

    [Fact]
    public async Task A_character_that_is_not_whole_yet_comes_with_the_next_read()
    {
        await using var world = await McpWorld.StartAsync();
        var (process, run) = await StartAsync(world);
        var euro = Encoding.UTF8.GetBytes("€");
        run.Write(OutputStream.Stdout, [(byte)'a', .. euro[..2]]);
        await using var clock = world.Server.Node.RunClock();
        var first = await world.DoAsync("process_read", new { process, wait = 5 });
        Assert.Equal(
            ("a", 1, false), (OutputOf(first), first.GetProperty("cursor").GetInt32(), first.TryGetProperty("invalid_bytes", out _)));
        // It is no output, for which a read would end.
        var none = await world.DoAsync("process_read", new { process, cursor = 1, wait = 5 });
        Assert.Equal(("", 1, "time"), (OutputOf(none), none.GetProperty("cursor").GetInt32(), none.GetProperty("reason").GetString()));
        run.Write(OutputStream.Stdout, [euro[2], .. "b"u8]);
        Assert.Equal("€b", OutputOf(await world.DoAsync("process_read", new { process, cursor = 1, wait = 5 })));
        run.Write(OutputStream.Stdout, euro.AsSpan(0, 2));
        run.EndWith(0);
        var last = await world.DoAsync("process_read", new { process, cursor = 5 });
        Assert.Equal(("\uFFFD", 2), (OutputOf(last), last.GetProperty("invalid_bytes").GetInt32()));
    }

    [Fact]
    public async Task Input_for_a_process_that_has_ended_is_refused()
    {
        await using var world = await McpWorld.StartAsync();
        var started = await world.DoAsync("process_start", new { command = "run", input = true });
        var process = started.GetProperty("process").GetString()!;
        world.Server.Node.GuestOf(started.GetProperty("sandbox").GetString()!).Runs.Single().EndWith(3);
        var (code, _, text) = await world.FailAsync("process_input", new { process, text = "abc" });
        Assert.Equal("process_state", code);
        Assert.Contains("has ended", text, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_text_is_not_found_across_a_gap()
    {
        await using var world = await McpWorld.StartAsync();
        var (process, run) = await StartAsync(world);
        run.Write("rea");
        var calling = world.DoAsync("process_read", new { process, wait = 5, until_text = "ready" });
        await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd, "the first piece is read");
        run.DropTo(100);
        run.Write("dy");
        await using var clock = world.Server.Node.RunClock();
        var answer = await calling;
        Assert.Equal(("time", 97), (answer.GetProperty("reason").GetString(), answer.GetProperty("lost_bytes").GetInt32()));
    }

    [Theory]
    [InlineData(CommandOutcome.Killed, "killed at its timeout")]
    [InlineData(CommandOutcome.Unknown, "whether something of it still runs is not known")]
    public async Task What_became_of_it_at_its_timeout_is_said_as_far_as_it_is_known(CommandOutcome outcome, string words)
    {
        await using var world = await McpWorld.StartAsync();
        var (process, run) = await StartAsync(world);
        run.EndWith(new ProcessEnd(137) { Stopped = new CommandStop(outcome, "a test stopped it") });
        var result = await world.CallAsync("process_read", new { process });
        var answer = result.StructuredContent!.Value;
        Assert.Equal(
            (true, outcome == CommandOutcome.Killed ? "killed" : "unknown"),
            (answer.GetProperty("timed_out").GetBoolean(), answer.GetProperty("outcome").GetString()));
        Assert.Contains(words, McpWorld.TextOf(result), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Standard_input_that_is_not_read_any_more_is_said_to_be_lost()
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        world.Server.Node.GuestOf(sandbox).RefusesInput = true;
        var calling = world.CallAsync("run", new { command = "run", stdin = "abc", wait = 40, sandbox });
        await FakeNode.UntilAsync(() => world.Server.Node.GuestOf(sandbox).Runs.Count == 1, "it runs");
        await using var clock = world.Server.Node.RunClock();
        var result = await calling;
        Assert.True(result.StructuredContent!.Value.GetProperty("stdin_lost").GetBoolean());
        Assert.Contains("does not read its stdin any more", McpWorld.TextOf(result), StringComparison.Ordinal);
    }

    [Fact]
    public async Task Input_that_the_process_does_not_take_in_time_is_counted()
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        world.Server.Node.GuestOf(sandbox).TakesInput = false;
        var started = await world.DoAsync("process_start", new { command = "run", input = true, sandbox });
        var process = started.GetProperty("process").GetString()!;
        var run = world.Server.Node.GuestOf(sandbox).Runs.Single();
        var text = new string('x', 100_000) + new string('y', 30_000);
        var calling = world.DoAsync("process_input", new { process, text, end = true });
        await FakeNode.UntilAsync(() => run.WaitingInput > 0, "it is written");
        int taken;
        await using (world.Server.Node.RunClock())
        {
            var answer = await calling;
            taken = answer.GetProperty("bytes").GetInt32();
            Assert.False(answer.GetProperty("ended").GetBoolean());
        }

        Assert.InRange(taken, 1, 129_999);
        Assert.False(run.HasInputEnded);
        run.TakesInput = true;
        await world.DoAsync("process_input", new { process, text = text[taken..], end = true });
        Assert.Equal((text, true), (Encoding.UTF8.GetString(run.Input), run.HasInputEnded));
    }

    [Fact]
    public async Task The_longest_life_that_the_server_allows_is_said()
    {
        await using var world = await McpWorld.StartAsync(engine: new EngineOptions { MaxLifetime = 600 });
        var result = await world.CallAsync("sandbox_create", new { });
        var ends = result.StructuredContent!.Value.GetProperty("ends_at").GetDateTimeOffset();
        Assert.InRange((ends - world.Server.Node.Time.GetUtcNow()).TotalSeconds, 590, 600);
        Assert.Contains(ends.UtcDateTime.ToString("yyyy-MM-dd HH:mm:ss", null), McpWorld.TextOf(result), StringComparison.Ordinal);
    }

    private static async Task<(string Process, FakeRun Run)> StartAsync(McpWorld world)
    {
        var started = await world.DoAsync("process_start", new { command = "run" });
        var run = world.Server.Node.GuestOf(started.GetProperty("sandbox").GetString()!).Runs.Single();
        return (started.GetProperty("process").GetString()!, run);
    }

    private static string OutputOf(JsonElement answer) => answer.GetProperty("guest").GetProperty("output").GetString()!;
}
