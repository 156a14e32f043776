using Pandora.Fakes;

namespace Pandora.Tests.Mcp;

/// <summary>Processes that are silent, talk on, end or are not fed to the end while a client waits for them.</summary>
public sealed class ProcessHoldTests
{
    private static readonly object ShortLived = new { idle_timeout = 10 };

    [Theory]
    [InlineData("run")]
    [InlineData("process_read")]
    public async Task A_silent_process_that_is_waited_for_keeps_its_sandbox_and_only_so_long(string tool)
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = (await world.DoAsync("sandbox_create", ShortLived)).GetProperty("sandbox").GetString()!;
        var calling = tool == "run"
            ? world.DoAsync("run", new { command = "run", wait = 40, sandbox })
            : world.DoAsync("process_read", new { process = await StartAsync(world, sandbox), wait = 40, until_text = "never" });
        var guest = world.Server.Node.GuestOf(sandbox);
        await FakeNode.UntilAsync(() => guest.Runs.Count == 1, "it has started");
        var run = guest.Runs.Single();
        // Who reads it holds the sandbox already.
        run.Write("x");
        await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd, "it is read");
        world.Server.Node.Time.Advance(TimeSpan.FromSeconds(30));
        await world.Server.Node.Sandboxes.ReapAsync();
        Assert.Single(world.Server.Node.Sandboxes.List());
        await using (world.Server.Node.RunClock())
        {
            Assert.Equal("time", (await calling).GetProperty("reason").GetString());
        }

        // Nobody waits now.
        await FakeNode.UntilAsync(() => run.ReaderCount == 0, "it is waited for no more");
        var reading = world.Server.Node.Sandboxes.All.Single();
        await FakeNode.UntilAsync(() =>
        {
            world.Server.Node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return reading.Idle > TimeSpan.Zero;
        });
        world.Server.Node.Time.Advance(TimeSpan.FromSeconds(11));
        await world.Server.Node.Sandboxes.ReapAsync();
        Assert.Empty(world.Server.Node.Sandboxes.List());
    }

    [Theory]
    [InlineData("""{"to_cursor": 3}""", "to_cursor", 3)]
    [InlineData("""{"until_text": "bc"}""", "text", 6)]
    public async Task A_process_that_has_ended_has_ended_wherever_its_reading_stopped(string wanted, string reason, int cursor)
    {
        await using var world = await McpWorld.StartAsync();
        var process = await StartAsync(world, sandbox: null);
        var run = RunOf(world);
        run.Write("abcdef");
        run.EndWith(3);
        var arguments = System.Text.Json.Nodes.JsonNode.Parse(wanted)!.AsObject();
        arguments["process"] = process;
        var answer = await world.DoAsync("process_read", arguments);
        Assert.Equal(
            ("ended", 3, reason, cursor),
            (answer.GetProperty("state").GetString(), answer.GetProperty("exit_code").GetInt32(),
                answer.GetProperty("reason").GetString(), answer.GetProperty("cursor").GetInt32()));
    }

    [Fact]
    public async Task A_process_that_has_ended_has_ended_although_its_output_is_long_and_nothing_is_waited_for()
    {
        await using var world = await McpWorld.StartAsync();
        var process = await StartAsync(world, sandbox: null);
        var run = RunOf(world);
        world.Server.Node.GuestOf(process.Split('/')[0]).PieceSize = 100;
        run.Write(new string('x', 20_000));
        run.EndWith(4);
        var answer = await world.DoAsync("process_read", new { process, wait = 0 });
        Assert.Equal(("ended", 4), (answer.GetProperty("state").GetString(), answer.GetProperty("exit_code").GetInt32()));
    }

    [Fact]
    public async Task What_the_sandbox_does_not_say_is_unknown_and_what_was_read_is_not_lost()
    {
        await using var world = await McpWorld.StartAsync();
        var process = await StartAsync(world, sandbox: null);
        var run = RunOf(world);
        var calling = world.CallAsync("process_read", new { process, to_cursor = 3 });
        await FakeNode.UntilAsync(() => run.ReaderCount == 1, "it is read");
        world.Server.Node.GuestOf(process.Split('/')[0]).Answers = new TaskCompletionSource().Task;
        run.Write("abc");
        await using var clock = world.Server.Node.RunClock();
        var result = await calling;
        var answer = result.StructuredContent!.Value;
        Assert.Equal(
            ("unknown", "abc"), (answer.GetProperty("state").GetString(), answer.GetProperty("guest").GetProperty("output").GetString()));
        Assert.StartsWith($"whether process {process} has ended is not known", McpWorld.TextOf(result), StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_process_that_never_stops_talking_is_not_waited_for_to_the_end()
    {
        await using var world = await McpWorld.StartAsync();
        var process = await StartAsync(world, sandbox: null);
        var (run, time) = (RunOf(world), world.Server.Node.Time);
        var calling = world.DoAsync("process_read", new { process, wait = 40 });
        await FakeNode.UntilAsync(() => run.ReaderCount == 1, "it is read");
        var start = time.GetTimestamp();
        while (!calling.IsCompleted)
        {
            run.Write("x\n");
            await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd || calling.IsCompleted, "it is read");
            time.Advance(TimeSpan.FromSeconds(0.1));
        }

        Assert.Equal("output", (await calling).GetProperty("reason").GetString());
        Assert.InRange(time.GetElapsedTime(start).TotalSeconds, 2, 20);
    }

    [Fact]
    public async Task A_text_that_comes_in_two_pieces_is_waited_for()
    {
        await using var world = await McpWorld.StartAsync();
        var process = await StartAsync(world, sandbox: null);
        var run = RunOf(world);
        run.Write("not yet\nrea");
        var calling = world.DoAsync("process_read", new { process, wait = 40, until_text = "ready" });
        await FakeNode.UntilAsync(() => run.ReadTo == run.OutputEnd, "the first piece is read");
        Assert.False(calling.IsCompleted);
        run.Write("dy\n");
        Assert.Equal("text", (await calling).GetProperty("reason").GetString());
    }

    [Fact]
    public async Task Input_that_the_command_does_not_take_is_said_and_can_be_written_later()
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        world.Server.Node.GuestOf(sandbox).TakesInput = false;
        var stdin = new string('x', 100_000) + new string('y', 30_000);
        var calling = world.CallAsync("run", new { command = "run", stdin, wait = 5, sandbox });
        await FakeNode.UntilAsync(() => world.Server.Node.GuestOf(sandbox).Runs.Count == 1, "it runs");
        var run = RunOf(world);
        await FakeNode.UntilAsync(() => run.WaitingInput == FakeRun.InputWindow, "there is no more room");
        await using var clock = world.Server.Node.RunClock();
        var result = await calling;
        var answer = result.StructuredContent!.Value;
        var taken = answer.GetProperty("stdin_bytes").GetInt32();
        Assert.Equal(FakeRun.InputWindow, taken);
        Assert.Contains($"{taken} bytes of stdin were taken so far", McpWorld.TextOf(result), StringComparison.Ordinal);
        Assert.False(run.HasInputEnded);
        run.TakesInput = true;
        await world.DoAsync(
            "process_input", new { process = answer.GetProperty("process").GetString(), text = stdin[taken..], end = true });
        Assert.Equal(stdin, System.Text.Encoding.UTF8.GetString(run.Input));
        Assert.True(run.HasInputEnded);
    }

    [Fact]
    public async Task A_cancelled_call_kills_a_command_that_does_not_take_its_input()
    {
        await using var world = await McpWorld.StartAsync();
        var sandbox = (await world.DoAsync("sandbox_create", new { })).GetProperty("sandbox").GetString()!;
        var guest = world.Server.Node.GuestOf(sandbox);
        // A message of the input is on its way when the call is cancelled. A message that is cut lets nothing follow it.
        var passes = new TaskCompletionSource();
        guest.InputPasses = passes.Task;
        using var cancelling = new CancellationTokenSource();
        var calling = world.CallAsync(
            "run", new { command = "run", stdin = new string('x', 200_000), sandbox }, cancellationToken: cancelling.Token);
        await FakeNode.UntilAsync(() => guest.Runs.SingleOrDefault()?.ReaderCount == 1, "it runs");
        await cancelling.CancelAsync();
        passes.SetResult();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => calling);
        await FakeNode.UntilAsync(() => RunOf(world).IsKilled, "it is killed");
    }

    private static async Task<string> StartAsync(McpWorld world, string? sandbox) =>
        (await world.DoAsync("process_start", new { command = "run", sandbox })).GetProperty("process").GetString()!;

    private static FakeRun RunOf(McpWorld world) =>
        world.Server.Node.Sandboxes.List().SelectMany(s => world.Server.Node.GuestOf(s.Id).Runs).Single();
}
