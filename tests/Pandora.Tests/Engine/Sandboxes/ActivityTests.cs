using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Which operations count as activity of a sandbox, on fake time.</summary>
public sealed class ActivityTests
{
    [Theory]
    [InlineData("exit 0", true)]
    [InlineData("exit 7", true)]
    [InlineData("timeout Killed", true)]
    [InlineData("timeout Unknown", true)]
    [InlineData("timeout NotStarted", false)]
    [InlineData("timeout Unreachable", false)]
    [InlineData("unasked", false)]
    [InlineData("unasked-break", false)]
    [InlineData("break", false)]
    [InlineData("crash", false)]
    [InlineData("nocwd", true)]
    public async Task Only_a_command_that_worked_restarts_the_idle_clock(string code, bool isActivity)
    {
        await using var node = new FakeNode();
        await using var clock = node.RunClock();
        var sandbox = await CreateAsync(node, idle: 600);
        node.Time.Advance(TimeSpan.FromSeconds(300));
        await TryAsync(node, sandbox, code);
        Assert.Equal(isActivity, sandbox.Idle < TimeSpan.FromSeconds(200));
        Assert.Equal(!isActivity, sandbox.HasFailed);
    }

    [Theory]
    [InlineData(CommandOutcome.Killed, true)]
    [InlineData(CommandOutcome.Unreachable, false)]
    public async Task A_cancelled_command_is_activity_if_the_guest_killed_it(CommandOutcome outcome, bool isActivity)
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 600);
        node.GuestOf(sandbox.Id).StopOutcome = outcome;
        using var client = new CancellationTokenSource();
        var running = node.StartAsync(sandbox.Id, new GuestCommand { Code = "hang" }, client.Token);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        node.Time.Advance(TimeSpan.FromSeconds(300));
        await client.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(isActivity ? 0 : 300, sandbox.Idle.TotalSeconds);
    }

    [Fact]
    public async Task One_client_that_retries_without_pause_keeps_no_dead_guest_alive()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 10);
        for (var i = 0; i < 3; i++)
        {
            await TryAsync(node, sandbox, "timeout Unreachable");
            node.Time.Advance(TimeSpan.FromSeconds(4));
        }

        // A command is refused before the reaper runs, so that no lease is held when it runs.
        var refused = await Assert.ThrowsAsync<PandoraException>(() => node.ExecAsync(sandbox.Id, "exit 0"));
        Assert.Equal((PandoraError.GuestUnreachable, CommandOutcome.NotStarted), (refused.Error, refused.Command));
        await node.Sandboxes.ReapAsync();
        Assert.Equal((EndReason.Idle, "nothing that was tried in it worked for 10 s"), (sandbox.End!.Reason, sandbox.End.Explanation));
    }

    [Fact]
    public async Task Two_clients_whose_retries_overlap_keep_no_dead_guest_alive()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 10);
        using var stop = new CancellationTokenSource();
        var guest = node.GuestOf(sandbox.Id);
        guest.StopOutcome = CommandOutcome.Unreachable;
        var first = node.StartAsync(sandbox.Id, new GuestCommand { Code = "hang" }, stop.Token);
        node.Time.Advance(TimeSpan.FromSeconds(8));
        using var later = new CancellationTokenSource();
        var second = node.StartAsync(sandbox.Id, new GuestCommand { Code = "hang" }, later.Token);
        node.Time.Advance(TimeSpan.FromSeconds(8));
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => first);
        // The second command began before the idle timeout was over. It may really run, so others may start too.
        await TryAsync(node, sandbox, "timeout Unreachable");
        await later.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => second);
        Assert.Equal(
            PandoraError.GuestUnreachable, (await Assert.ThrowsAsync<PandoraException>(() => node.ExecAsync(sandbox.Id, "exit 0"))).Error);
        await node.Sandboxes.ReapAsync();
        Assert.NotNull(sandbox.End);
    }

    [Fact]
    public async Task A_sandbox_with_a_running_command_is_never_reaped_when_others_fail()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 10);
        var running = node.StartAsync(sandbox.Id, new GuestCommand { Code = "hang" }, default);
        await node.GuestOf(sandbox.Id).Hanging.Task;
        for (var i = 0; i < 20; i++)
        {
            node.Time.Advance(TimeSpan.FromSeconds(10));
            await TryAsync(node, sandbox, "timeout Unreachable");
            await node.Sandboxes.ReapAsync();
            Assert.Null(sandbox.End);
        }

        node.GuestOf(sandbox.Id).Release();
        (await running).Dispose();
        Assert.Equal(TimeSpan.Zero, sandbox.Idle);
        Assert.Equal(0, (await node.ExecAsync(sandbox.Id, "exit 0")).ExitCode);
    }

    [Fact]
    public async Task A_keepalive_keeps_a_sandbox_whose_last_command_failed()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 10);
        await TryAsync(node, sandbox, "timeout Unreachable");
        node.Time.Advance(TimeSpan.FromSeconds(11));
        sandbox.KeepAlive();
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        Assert.Equal(0, (await node.ExecAsync(sandbox.Id, "exit 0")).ExitCode);
    }

    [Fact]
    public async Task A_result_that_is_being_read_delays_no_restart()
    {
        await using var node = new FakeNode();
        var sandbox = await CreateAsync(node, idle: 10);
        using var execution = await node.StartAsync(sandbox.Id, new GuestCommand { Code = "echo hi" }, default);
        Assert.Equal("hi\n", execution.Result.Stdout.ToString());
        Assert.True(sandbox.WhenUnusedAsync().IsCompleted);
        node.Time.Advance(TimeSpan.FromSeconds(20));
        Assert.Equal(TimeSpan.Zero, sandbox.Idle);
    }

    private static async Task<Sandbox> CreateAsync(FakeNode node, double idle) =>
        (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: idle), default)).Sandbox;

    private static async Task TryAsync(FakeNode node, Sandbox sandbox, string code)
    {
        try
        {
            await node.ExecAsync(sandbox.Id, code);
        }
        catch (Exception e) when (e is PandoraException or InvalidDataException)
        {
            // The test expects that the command fails.
        }
    }
}
