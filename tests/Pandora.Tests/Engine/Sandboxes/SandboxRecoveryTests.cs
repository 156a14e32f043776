using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>The processes of a sandbox whose server died or stopped.</summary>
public sealed class SandboxRecoveryTests
{
    private static readonly ProcessSpec Run = new() { Code = "run" };
    private static readonly GuestCommand Command = new() { Code = "run", Timeout = TimeSpan.FromHours(1) };

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_command_that_nobody_reattaches_to_is_killed_after_60_s_and_others_run_on(bool isKilled)
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node);
        var command = await ServeCommandAsync(sandbox);
        var kept = await ServeCommandAsync(sandbox);
        var background = await sandbox.StartProcessAsync(Run, default);
        guest.RunOf(command).Write("so far");
        await node.RestartAsync(isKilled);
        Assert.All(guest.Runs, r => Assert.Null(r.End));

        var adopted = node.Sandboxes.Get(sandbox.Id);
        guest.RunOf(command).Write(" and more");
        await using (var again = await adopted.AttachAsync(kept, new ReadFrom(0), default))
        {
            Assert.True(again.Facts.IsForeground);
        }

        Assert.True(await PassUntilAsync(node, () => guest.RunOf(command).IsKilled) >= 60);
        Assert.Null(guest.RunOf(kept).End);
        Assert.Null(guest.RunOf(background.Id).End);
        await using var late = await adopted.AttachAsync(command, new ReadFrom(0), default);
        Assert.Equal("so far and more", await SandboxProcessesTests.ReadOneAsync(late));
        Assert.Null(await late.ReadAsync(default));
        Assert.Equal(137, late.End!.ExitCode);
        Assert.Null((await adopted.GetProcessAsync(kept, default)).End);
    }

    [Fact]
    public async Task The_sandbox_of_such_a_command_is_not_idle_meanwhile()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node, idle: 60);
        await ServeCommandAsync(sandbox);
        await node.RestartAsync(isKilled: true);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        // Before the processes were listed, the sandbox is as idle as any.
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return adopted.Idle == TimeSpan.Zero;
        });
        Assert.True(await PassUntilAsync(node, () => guest.Runs[0].IsKilled) >= 59);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return adopted.Idle > TimeSpan.Zero;
        });
        Assert.False(adopted.HasFailed);
        node.Time.Advance(TimeSpan.FromSeconds(60));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, adopted.End!.Reason);
    }

    [Fact]
    public async Task A_reader_of_a_command_holds_the_sandbox_until_its_end_and_not_longer()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node, idle: 10);
        var id = await ServeCommandAsync(sandbox);
        await node.RestartAsync(isKilled: true);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        await using var reader = await adopted.AttachAsync(id, new ReadFrom(0), default);
        var start = node.Time.GetUtcNow();
        await PassUntilAsync(node, () => node.Time.GetUtcNow() - start > TimeSpan.FromSeconds(100), kill: 101);
        await node.Sandboxes.ReapAsync();
        Assert.Null(adopted.End);
        guest.RunOf(id).EndWith(0);
        Assert.Null(await reader.ReadAsync(default));
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return adopted.Idle > TimeSpan.Zero;
        });
        // The end of the command is an activity that worked, as it is with the first server.
        Assert.False(adopted.HasFailed);
        node.Time.Advance(TimeSpan.FromSeconds(9));
        await node.Sandboxes.ReapAsync();
        Assert.Null(adopted.End);
        node.Time.Advance(TimeSpan.FromSeconds(1));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, adopted.End!.Reason);
    }

    [Fact]
    public async Task A_reader_of_a_command_that_leaves_is_no_failure()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, _) = await CreateAsync(node);
        await using var command = await sandbox.StartCommandAsync(Command, default);
        node.Time.Advance(TimeSpan.FromSeconds(5));
        await (await sandbox.AttachAsync(command.Id, new ReadFrom(0), default)).DisposeAsync();
        Assert.False(sandbox.HasFailed);
    }

    [Fact]
    public async Task What_keeps_a_sandbox_alive_does_so_again()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node, idle: 10);
        await sandbox.StartProcessAsync(Run with { KeepsAlive = true }, default);
        await node.RestartAsync(isKilled: true);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return adopted.Idle == TimeSpan.Zero;
        });
        node.Time.Advance(TimeSpan.FromSeconds(1000));
        await node.Sandboxes.ReapAsync();
        Assert.Null(adopted.End);
        guest.Runs[0].EndWith(0);
        await FakeNode.UntilAsync(() =>
        {
            node.Time.Advance(TimeSpan.FromMilliseconds(1));
            return adopted.Idle > TimeSpan.Zero;
        });
        node.Time.Advance(TimeSpan.FromSeconds(10));
        await node.Sandboxes.ReapAsync();
        Assert.NotNull(adopted.End);
    }

    [Fact]
    public async Task A_client_that_attaches_before_the_processes_were_listed_keeps_its_command()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node);
        var id = await ServeCommandAsync(sandbox);
        var other = await ServeCommandAsync(sandbox);
        var answers = new TaskCompletionSource();
        await node.RestartAsync(isKilled: true, () => guest.Answers = answers.Task);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        var attaching = adopted.AttachAsync(id, new ReadFrom(0), default);
        guest.Answers = Task.CompletedTask;
        answers.SetResult();
        await using var reader = await attaching;
        await PassUntilAsync(node, () => guest.RunOf(other).IsKilled);
        Assert.Null(guest.RunOf(id).End);
    }

    [Fact]
    public async Task A_command_that_starts_before_the_processes_were_listed_is_not_taken_for_one_of_them()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node);
        var old = guest.RunOf(await ServeCommandAsync(sandbox));
        var answers = new TaskCompletionSource();
        await node.RestartAsync(isKilled: true, () => guest.Answers = answers.Task);
        var adopted = node.Sandboxes.Get(sandbox.Id);
        // What was asked later arrives first.
        guest.Answers = Task.CompletedTask;
        var streaming = adopted.StartCommandAsync(Command, default);
        var collecting = adopted.ExecAsync(Command, default);
        answers.SetResult();
        await using var streamed = await streaming;
        await PassUntilAsync(node, () => old.IsKilled);
        await FakeNode.UntilAsync(() => guest.Runs.Count == 3);
        Assert.All(guest.Runs.Except([old]), r => Assert.Null(r.End));
        guest.Runs.ToList().ForEach(r => r.EndWith(0));
        (await collecting).Dispose();
    }

    [Fact]
    public async Task A_server_that_stops_interrupts_readers_and_leaves_their_processes_running()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node);
        var command = await sandbox.StartCommandAsync(Command, default);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true }, default)).Id;
        var reader = await sandbox.AttachAsync(id, new ReadFrom(0), default);
        Task[] waiting =
        [
            command.ReadAsync(default).AsTask(), reader.ReadAsync(default).AsTask(),
            sandbox.WaitForProcessAsync(id, TimeSpan.FromHours(1), default),
            sandbox.WriteInputAsync(id, new System.IO.Pipelines.Pipe().Reader.AsStream(), null, default),
        ];
        var stopping = node.Sandboxes.DetachAsync(TimeSpan.FromSeconds(5));
        Assert.Equal(
            PandoraError.ShuttingDown,
            (await Assert.ThrowsAsync<PandoraException>(() => sandbox.StartProcessAsync(Run, default))).Error);
        // At once: the clock stands still, and the server waits for no command that lives on.
        foreach (var task in waiting)
        {
            var error = await Assert.ThrowsAsync<PandoraException>(() => task.WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System));
            Assert.Equal(PandoraError.ShuttingDown, error.Error);
        }

        await command.DisposeAsync();
        await reader.DisposeAsync();
        await stopping;
        Assert.All(guest.Runs, r => Assert.Null(r.End));
    }

    [Fact]
    public async Task A_collected_command_is_killed_by_a_server_that_stops_and_taken_up_after_one_that_died()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1 });
        var (sandbox, guest) = await CreateAsync(node);
        var stopped = node.StartAsync(sandbox.Id, new GuestCommand { Code = "run" });
        await FakeNode.UntilAsync(() => guest.Runs.Count == 1);
        await node.RestartAsync(isKilled: false);
        var interrupted = await Assert.ThrowsAsync<PandoraException>(() => stopped);
        Assert.Equal((PandoraError.Interrupted, CommandOutcome.Killed), (interrupted.Error, interrupted.Command));

        var next = node.Sandboxes.Get(sandbox.Id);
        _ = next.ExecAsync(Command, default).ContinueWith(t => t.Exception, TaskScheduler.Default);
        await FakeNode.UntilAsync(() => guest.Runs.Any(r => r.End is null));
        var left = guest.Runs.Single(r => r.End is null);
        await node.RestartAsync(isKilled: true);
        Assert.Null(left.End);
        Assert.True(await PassUntilAsync(node, () => left.IsKilled) >= 60);
    }

    // Lets time pass until a condition holds; the sandbox lives on. Returns the seconds that have passed. The kill is due after some
    // seconds, and then needs real time only.
    private static async Task<double> PassUntilAsync(FakeNode node, Func<bool> condition, int kill = 61)
    {
        var start = node.Time.GetTimestamp();
        var isReaped = false;
        await FakeNode.UntilAsync(() =>
        {
            if (condition())
            {
                return true;
            }

            node.Time.Advance(TimeSpan.FromMilliseconds(node.Time.GetElapsedTime(start) < TimeSpan.FromSeconds(kill) ? 10 : 1));
            isReaped |= node.Sandboxes.All.Any(s => s.Idle >= s.IdleTimeout);
            return false;
        });
        Assert.False(isReaped);
        return node.Time.GetElapsedTime(start).TotalSeconds;
    }

    // Reads and disposes of a process, as a front end does.
    private static async Task ServeAsync(SandboxProcess process)
    {
        await using (process)
        {
            await Assert.ThrowsAsync<PandoraException>(async () =>
            {
                while (await process.ReadAsync(default) is not null)
                {
                    // Nobody wants it.
                }
            });
        }
    }

    private static async Task<string> ServeCommandAsync(Sandbox sandbox)
    {
        var command = await sandbox.StartCommandAsync(Command, default);
        _ = ServeAsync(command);
        return command.Id;
    }

    private static async Task<(Sandbox Sandbox, FakeGuest Guest)> CreateAsync(FakeNode node, double idle = 600)
    {
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: idle), default)).Sandbox;
        return (sandbox, node.GuestOf(sandbox.Id));
    }
}
