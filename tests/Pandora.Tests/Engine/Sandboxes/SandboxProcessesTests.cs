using System.Text;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Sandboxes;

/// <summary>Processes in a sandbox: what they are, what ends them, and which of them are an activity.</summary>
public sealed class SandboxProcessesTests
{
    private static readonly ProcessSpec Run = new() { Code = "run" };
    private static readonly GuestCommand Command = new() { Code = "run", Timeout = TimeSpan.FromHours(1) };

    [Fact]
    public async Task A_process_is_started_found_read_twice_fed_signalled_and_remembered()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var info = await sandbox.StartProcessAsync(Run with { HasInput = true, Tag = "mine" }, default);
        var run = guest.Runs.Single();
        Assert.Equal((run.Id, "mine", "run", null), (info.Id, info.Tag, info.Command, info.End));
        Assert.False(info.Facts.IsForeground);
        Assert.Equal(0, run.ReaderCount);
        run.Write("hello\n");
        await using var first = await sandbox.AttachAsync(info.Id, new ReadFrom(0), default);
        await using var second = await sandbox.AttachAsync(info.Id, new ReadFrom(3), default);
        Assert.Equal("hello\n", await ReadOneAsync(first));
        Assert.Equal("lo\n", await ReadOneAsync(second));
        await sandbox.WriteInputAsync(info.Id, new MemoryStream("abc"u8.ToArray()), null, default);
        Assert.Equal("abc"u8, run.Input);
        await sandbox.EndInputAsync(info.Id, default);
        Assert.True(run.HasInputEnded);
        var waiting = sandbox.WaitForProcessAsync(info.Id, TimeSpan.FromHours(1), default);
        await sandbox.SignalProcessAsync(info.Id, 15, default);
        Assert.Equal(143, (await waiting).End!.ExitCode);
        Assert.Null(await first.ReadAsync(default));
        Assert.Equal((143, 6L), (first.End!.ExitCode, first.End.Offset));
        Assert.Equal(143, (await sandbox.ListProcessesAsync(default)).Single().End!.ExitCode);
        Assert.Null(first.Elapsed);
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task Input_that_was_accepted_before_is_left_out_and_input_that_is_missing_is_refused()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true }, default)).Id;
        await sandbox.WriteInputAsync(id, new MemoryStream("abcd"u8.ToArray()), 0, default);
        await sandbox.WriteInputAsync(id, new MemoryStream("cdef"u8.ToArray()), 2, default);
        await sandbox.WriteInputAsync(id, new MemoryStream("a"u8.ToArray()), 0, default);
        await sandbox.WriteInputAsync(id, new MemoryStream("g"u8.ToArray()), null, default);
        Assert.Equal("abcdefg"u8, guest.Runs[0].Input);
        var refused = await Assert.ThrowsAsync<PandoraException>(() =>
            sandbox.WriteInputAsync(id, new MemoryStream("x"u8.ToArray()), 8, default));
        Assert.Equal(PandoraError.ProcessState, refused.Error);
    }

    [Fact]
    public async Task Input_waits_for_the_process_and_its_end_ends_the_wait()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true }, default)).Id;
        var run = guest.Runs[0];
        run.TakesInput = false;
        var bytes = new byte[200_000];
        Random.Shared.NextBytes(bytes);
        var writing = sandbox.WriteInputAsync(id, new MemoryStream(bytes), null, default);
        await FakeNode.UntilAsync(() => run.WaitingInput >= 48 * 1024);
        Assert.False(writing.IsCompleted);
        run.TakesInput = true;
        await writing;
        Assert.Equal(bytes, run.Input);

        run.TakesInput = false;
        var cut = sandbox.WriteInputAsync(id, new MemoryStream(bytes), null, default);
        await FakeNode.UntilAsync(() => run.WaitingInput > 0);
        run.EndWith(0);
        Assert.Equal(PandoraError.ProcessState, (await Assert.ThrowsAsync<PandoraException>(() => cut)).Error);
    }

    [Fact]
    public async Task A_client_that_sends_slowly_learns_that_the_process_has_ended()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true }, default)).Id;
        var slow = new System.IO.Pipelines.Pipe();
        var writing = sandbox.WriteInputAsync(id, slow.Reader.AsStream(), null, default);
        await slow.Writer.WriteAsync("a"u8.ToArray());
        await FakeNode.UntilAsync(() => guest.Runs[0].Input.Length == 1);
        guest.Runs[0].EndWith(0);
        Assert.Equal(
            PandoraError.ProcessState,
            (await Assert.ThrowsAsync<PandoraException>(() => writing.WaitAsync(TimeSpan.FromMinutes(1), TimeProvider.System))).Error);
    }

    [Fact]
    public async Task What_a_process_cannot_do_is_refused()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run, default)).Id;
        async Task RefusedAsync(PandoraError error, Func<Task> act) =>
            Assert.Equal(error, (await Assert.ThrowsAsync<PandoraException>(act)).Error);
        await RefusedAsync(PandoraError.ProcessState, () => sandbox.ResizeProcessAsync(id, 80, 24, default));
        await RefusedAsync(PandoraError.ProcessState, () => sandbox.WriteInputAsync(id, Stream.Null, null, default));
        await RefusedAsync(PandoraError.ProcessState, () => sandbox.EndInputAsync(id, default));
        guest.Runs[0].EndWith(0);
        await RefusedAsync(PandoraError.ProcessState, () => sandbox.SignalProcessAsync(id, 15, default));
        foreach (var unknown in new[] { "nothing", "", "../x", new string('a', 65), "ü" })
        {
            await RefusedAsync(PandoraError.ProcessNotFound, () => sandbox.GetProcessAsync(unknown, default));
            await RefusedAsync(PandoraError.ProcessNotFound, () => sandbox.AttachAsync(unknown, new ReadFrom(0), default));
            await RefusedAsync(PandoraError.ProcessNotFound, () => sandbox.WaitForProcessAsync(unknown, TimeSpan.Zero, default));
            await RefusedAsync(PandoraError.ProcessNotFound, () => sandbox.SignalProcessAsync(unknown, 15, default));
        }
    }

    [Fact]
    public async Task A_signal_that_ends_the_process_at_once_was_sent()
    {
        await using var node = new FakeNode();
        var (sandbox, _) = await CreateAsync(node);
        for (var i = 0; i < 200; i++)
        {
            var id = (await sandbox.StartProcessAsync(Run, default)).Id;
            await sandbox.SignalProcessAsync(id, 9, default);
        }
    }

    [Fact]
    public async Task A_wait_ends_at_its_limit_and_the_process_runs_on()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run, default)).Id;
        Assert.Null((await sandbox.WaitForProcessAsync(id, TimeSpan.Zero, default)).End);
        var waiting = sandbox.WaitForProcessAsync(id, TimeSpan.FromSeconds(7), default);
        await FakeNode.UntilAsync(() => guest.Runs[0].Changed is not null);
        await using (node.RunClock())
        {
            Assert.Null((await waiting).End);
        }

        guest.Runs[0].EndWith(3);
        Assert.Equal(3, (await sandbox.WaitForProcessAsync(id, TimeSpan.Zero, default)).End!.ExitCode);
    }

    [Fact]
    public async Task Only_a_command_is_killed_when_its_reader_leaves()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node);
        var background = (await sandbox.StartProcessAsync(Run, default)).Id;
        await (await sandbox.AttachAsync(background, new ReadFrom(0), default)).DisposeAsync();
        Assert.Null(guest.RunOf(background).End);
        var command = await sandbox.StartCommandAsync(Command, default);
        var run = guest.RunOf(command.Id);
        Assert.True(run.Facts.IsForeground);
        await (await sandbox.AttachAsync(command.Id, new ReadFrom(0), default)).DisposeAsync();
        Assert.False(run.IsKilled);
        await command.DisposeAsync();
        Assert.True(run.IsKilled);
        Assert.Equal(TimeSpan.Zero, sandbox.Idle);
        Assert.False(sandbox.HasFailed);
    }

    [Fact]
    public async Task A_running_command_is_an_activity_and_a_background_process_is_not()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node, idle: 60);
        await sandbox.StartProcessAsync(Run, default);
        node.Time.Advance(TimeSpan.FromSeconds(30));
        Assert.Equal(30, sandbox.Idle.TotalSeconds);
        var command = await sandbox.StartCommandAsync(Command, default);
        node.Time.Advance(TimeSpan.FromSeconds(100));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        guest.RunOf(command.Id).EndWith(0);
        Assert.Null(await command.ReadAsync(default));
        await command.DisposeAsync();
        Assert.NotNull(command.Elapsed);
        node.Time.Advance(TimeSpan.FromSeconds(59));
        await node.Sandboxes.ReapAsync();
        Assert.Null(sandbox.End);
        node.Time.Advance(TimeSpan.FromSeconds(2));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, sandbox.End!.Reason);
    }

    [Fact]
    public async Task A_process_that_keeps_alive_holds_the_sandbox_until_its_end()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node, idle: 60);
        await sandbox.StartProcessAsync(Run with { KeepsAlive = true }, default);
        node.Time.Advance(TimeSpan.FromSeconds(1000));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(TimeSpan.Zero, sandbox.Idle);
        guest.Runs[0].EndWith(0);
        await UntilIdleAsync(node, sandbox);
        Assert.False(sandbox.HasFailed);
    }

    [Fact]
    public async Task A_reader_counts_while_bytes_move_and_not_while_it_is_quiet()
    {
        await using var node = new FakeNode();
        var (sandbox, guest) = await CreateAsync(node, idle: 60);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true }, default)).Id;
        await using var reader = await sandbox.AttachAsync(id, new ReadFrom(0), default);
        node.Time.Advance(TimeSpan.FromSeconds(50));
        Assert.Equal(50, sandbox.Idle.TotalSeconds);
        guest.Runs[0].Write("x");
        Assert.Equal("x", await ReadOneAsync(reader));
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
        node.Time.Advance(TimeSpan.FromSeconds(50));
        await sandbox.WriteInputAsync(id, new MemoryStream("x"u8.ToArray()), null, default);
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
        node.Time.Advance(TimeSpan.FromSeconds(50));
        await reader.WriteInputAsync("y"u8.ToArray(), default);
        Assert.Equal(0, sandbox.Idle.TotalSeconds);
        var waiting = reader.ReadAsync(default);
        node.Time.Advance(TimeSpan.FromSeconds(60));
        await node.Sandboxes.ReapAsync();
        Assert.Equal(EndReason.Idle, sandbox.End!.Reason);
        Assert.Equal(PandoraError.SandboxNotFound, (await Assert.ThrowsAsync<PandoraException>(async () => await waiting)).Error);
    }

    [Fact]
    public async Task A_request_that_the_guest_refused_is_an_answer()
    {
        await using var node = new FakeNode();
        var (sandbox, _) = await CreateAsync(node, idle: 60);
        node.Time.Advance(TimeSpan.FromSeconds(30));
        await Assert.ThrowsAsync<PandoraException>(() => sandbox.StartProcessAsync(Run with { Code = "nocwd" }, default));
        Assert.Equal((0, false), (sandbox.Idle.TotalSeconds, sandbox.HasFailed));
        node.Time.Advance(TimeSpan.FromSeconds(30));
        await Assert.ThrowsAsync<PandoraException>(() => sandbox.StartCommandAsync(Command with { Code = "nocwd" }, default));
        Assert.Equal((0, false), (sandbox.Idle.TotalSeconds, sandbox.HasFailed));
        await using var clock = node.RunClock();
        await Assert.ThrowsAsync<PandoraException>(() => sandbox.StartProcessAsync(Run with { Code = "break" }, default));
        Assert.True(sandbox.HasFailed);
    }

    [Fact]
    public async Task Readers_are_bounded_and_a_reader_that_leaves_makes_room()
    {
        await using var node = new FakeNode();
        var (sandbox, _) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run, default)).Id;
        var readers = new List<SandboxProcess>();
        for (var i = 0; i < 1024; i++)
        {
            readers.Add(await sandbox.AttachAsync(id, new ReadFrom(0), default));
        }

        async Task<PandoraError> RefusedAsync(Func<Task> act) => (await Assert.ThrowsAsync<PandoraException>(act)).Error;
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => sandbox.AttachAsync(id, new ReadFrom(0), default)));
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => sandbox.WaitForProcessAsync(id, TimeSpan.Zero, default)));
        await sandbox.SignalProcessAsync(id, 10, default);
        await readers[0].DisposeAsync();
        await readers[0].DisposeAsync();
        Assert.Equal(PandoraError.ProcessNotFound, await RefusedAsync(() => sandbox.AttachAsync("unknown", new ReadFrom(0), default)));
        await using var last = await sandbox.AttachAsync(id, new ReadFrom(0), default);
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => sandbox.AttachAsync(id, new ReadFrom(0), default)));
        foreach (var reader in readers)
        {
            await reader.DisposeAsync();
        }
    }

    [Fact]
    public async Task Streamed_commands_are_bounded_with_the_others()
    {
        await using var node = new FakeNode(new EngineOptions { PoolSize = 1, MaxExecs = 2 });
        var (sandbox, guest) = await CreateAsync(node);
        await using var first = await sandbox.StartCommandAsync(Command, default);
        var second = await sandbox.StartCommandAsync(Command, default);
        async Task<PandoraError> RefusedAsync(Func<Task> act) => (await Assert.ThrowsAsync<PandoraException>(act)).Error;
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => sandbox.StartCommandAsync(Command, default)));
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => sandbox.StartProcessAsync(Run, default)));
        Assert.Equal(PandoraError.TooManyExecs, await RefusedAsync(() => node.ExecAsync(sandbox.Id, "exit 0")));
        await second.DisposeAsync();
        await sandbox.StartProcessAsync(Run, default);
        Assert.Equal(3, guest.Runs.Count);
        Assert.Equal(3, sandbox.ExecCount);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_sandbox_that_ends_says_so_to_all_of_its_readers(bool dies)
    {
        await using var node = new FakeNode();
        var (sandbox, _) = await CreateAsync(node);
        var id = (await sandbox.StartProcessAsync(Run with { HasInput = true, KeepsAlive = true }, default)).Id;
        await using var reader = await sandbox.AttachAsync(id, new ReadFrom(0), default);
        await using var command = await sandbox.StartCommandAsync(Command, default);
        Task[] waiting =
        [
            reader.ReadAsync(default).AsTask(), command.ReadAsync(default).AsTask(),
            sandbox.WaitForProcessAsync(id, TimeSpan.FromHours(1), default),
            sandbox.WriteInputAsync(id, new System.IO.Pipelines.Pipe().Reader.AsStream(), null, default),
        ];
        if (dies)
        {
            node.MachineOf(sandbox.Id).Die("a test said so");
        }
        else
        {
            await node.Sandboxes.DeleteAsync(sandbox.Id, complete: false);
        }

        foreach (var task in waiting)
        {
            Assert.Equal(
                dies ? PandoraError.SandboxGone : PandoraError.SandboxNotFound,
                (await Assert.ThrowsAsync<PandoraException>(() => task)).Error);
        }
    }

    internal static async Task<string> ReadOneAsync(SandboxProcess process) =>
        Encoding.UTF8.GetString((await process.ReadAsync(default))!.Value.Bytes.Span);

    private static async Task<(Sandbox Sandbox, FakeGuest Guest)> CreateAsync(FakeNode node, double idle = 600)
    {
        var sandbox = (await node.Sandboxes.CreateAsync(new SandboxRequest(IdleTimeout: idle), default)).Sandbox;
        return (sandbox, node.GuestOf(sandbox.Id));
    }

    // The end of a process is seen soon after it.
    private static async Task UntilIdleAsync(FakeNode node, Sandbox sandbox) => await FakeNode.UntilAsync(() =>
    {
        node.Time.Advance(TimeSpan.FromMilliseconds(1));
        return sandbox.Idle > TimeSpan.Zero;
    });
}
