using System.Buffers.Binary;
using System.Text;
using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;

namespace Pandora.Tests.Guests;

/// <summary>The server's view of a process, against agents that answer as a script says.</summary>
public sealed partial class AgentProcessTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1), Limit = TimeSpan.FromSeconds(30);
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task A_process_is_started_read_and_its_end_is_told()
    {
        StartRequest? request = null;
        var (guest, connection) = Guest((stream, kind, body) =>
        {
            request = StartRequest.Decode(body);
            stream.Send(ProcessMessage.Started, new StartedReport(513, default).Encode());
            stream.Output(0, 1, "out"u8.ToArray());
            stream.Output(3, 2, "err"u8.ToArray());
            stream.Output(10, 1, "gap"u8.ToArray());
            stream.Send(ProcessMessage.Ended, new EndReport(3, false, true, 4096, 13).Encode());
        });
        var spec = new ProcessSpec
        {
            Code = "x",
            Environment = new Dictionary<string, string> { ["A"] = "1", ["B"] = "" },
            Directory = "/tmp",
            User = "user",
            HasInput = true,
            IsMerged = true,
            Terminal = (80, 24),
            TimeLimit = Limit,
            WaitsForReader = true,
            IsForeground = true,
            IsReadOnce = true,
            Tag = "tag",
        };
        await using var process = await guest.StartAsync(spec, default);
        Assert.Equal(513, process.Pid);
        Assert.Equal((process.Id, "tag", "x", "/tmp", "user"), (request!.Id, request.Tag, request.Code, request.Directory, request.User));
        Assert.Equal(["A", "1", "B", ""], request.Environment);
        Assert.Equal((true, true, 80, 24), (request.HasInput, request.IsMerged, request.Columns, request.Rows));
        Assert.Equal((OutputPolicy.Wait, true), (request.Policy, request.IsForeground));
        // The guest ends it by itself only when the server does not.
        Assert.Equal((long)(Limit + AgentProcess.KillLimit).TotalMilliseconds, request.TimeLimit);

        Assert.Equal((OutputStream.Stdout, 0L, "out"), await NextAsync(process));
        Assert.Equal((OutputStream.Stderr, 3L, "err"), await NextAsync(process));
        Assert.Equal((OutputStream.Stdout, 10L, "gap"), await NextAsync(process));
        Assert.Null(process.End);
        Assert.Null(await process.ReadAsync(default));
        Assert.Equal(new ProcessEnd(3) { OomLimit = 4096, HasLeftovers = true, Offset = 13 }, process.End);
        Assert.Null(await process.ReadAsync(default));
        await process.DisposeAsync();
        Assert.Equal((true, true), (connection.Last.IsClosed, connection.Last.MustForget));
    }

    [Fact]
    public async Task A_process_that_is_not_read_to_its_end_is_not_forgotten()
    {
        var (guest, connection) = Guest((stream, _, _) => stream.Started());
        await (await guest.StartAsync(new ProcessSpec { Code = "x" }, default)).DisposeAsync();
        Assert.Equal((true, false), (connection.Last.IsClosed, connection.Last.MustForget));
    }

    [Theory]
    [InlineData(FailureKind.User, PandoraError.InvalidRequest, "user")]
    [InlineData(FailureKind.Directory, PandoraError.InvalidRequest, "cwd")]
    [InlineData(FailureKind.Program, PandoraError.InvalidRequest, "code")]
    [InlineData(FailureKind.Guest, PandoraError.GuestUnreachable, null)]
    [InlineData(FailureKind.Process, PandoraError.ProcessNotFound, null)]
    [InlineData(FailureKind.Protocol, PandoraError.GuestUnreachable, null)]
    [InlineData((FailureKind)99, PandoraError.GuestUnreachable, null)]
    internal async Task A_failure_names_the_field(FailureKind kind, PandoraError error, string? field)
    {
        var (guest, connection) = Guest((stream, _, _) =>
            stream.Send(ProcessMessage.Failed, new FailureReport(kind, "why\e[31m\n" + new string('x', 10_000)).Encode()));
        var e = await Assert.ThrowsAsync<PandoraException>(() => guest.StartAsync(new ProcessSpec { Code = "x" }, default));
        Assert.Equal((error, field), (e.Error, e.Field));
        Assert.Contains("why.[31m.xxx", e.Message);
        Assert.True(e.Message.Length < 400);
        Assert.Equal(error == PandoraError.GuestUnreachable ? CommandOutcome.NotStarted : null, e.Command);
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData(false, false, 0)]
    [InlineData(true, true, 1)]
    [InlineData(true, false, 2)]
    public async Task The_agent_knows_how_long_a_process_waits_and_what_is_kept(bool waits, bool isReadOnce, int policy)
    {
        StartRequest? request = null;
        var (guest, connection) = Guest((stream, _, body) =>
        {
            request = StartRequest.Decode(body);
            stream.Started();
            stream.Ended(0, 0);
        });
        var spec = new ProcessSpec { Code = "x", WaitsForReader = waits, IsReadOnce = isReadOnce, TimeLimit = Limit, KeepsAlive = true };
        await using (var process = await guest.StartAsync(spec, default))
        {
            Assert.Equal(0, await ReadAllAsync(process));
        }

        Assert.Equal(((OutputPolicy)policy, true), (request!.Policy, request.KeepsAlive));
        Assert.Equal((long)Limit.TotalMilliseconds, request.TimeLimit);
        Assert.Equal(isReadOnce, connection.Last.MustForget);
    }

    [Fact]
    public async Task A_start_that_the_guest_never_received_is_withdrawn()
    {
        var (guest, connection) = Guest((_, _, _) => Assert.Fail("the guest receives nothing"));
        connection.IsStuck = true;
        using var cancelled = new CancellationTokenSource();
        var starting = guest.StartAsync(new ProcessSpec { Code = "x", TimeLimit = Limit, IsForeground = true }, cancelled.Token);
        await cancelled.CancelAsync();
        var stopped = await Assert.ThrowsAsync<CommandStoppedException>(() => starting.WaitAsync(Patience));
        Assert.Equal(CommandStop.NotStarted, stopped.Stop);
        Assert.True(connection.Last.IsClosed);

        // Likewise when its time is over, and at once.
        starting = guest.StartAsync(new ProcessSpec { Code = "x", TimeLimit = Limit, IsForeground = true }, default);
        _time.Advance(Limit);
        var late = await Assert.ThrowsAsync<PandoraException>(() => starting.WaitAsync(Patience));
        Assert.Equal((PandoraError.GuestUnreachable, CommandOutcome.NotStarted), (late.Error, late.Command));
        Assert.True(connection.Last.IsClosed);

        connection.Refusal = "too many streams";
        var refused = await Assert.ThrowsAsync<PandoraException>(() => guest.StartAsync(new ProcessSpec { Code = "x" }, default));
        Assert.Equal(CommandOutcome.NotStarted, refused.Command);
    }

    [Fact]
    public async Task A_start_that_is_cancelled_after_the_guest_received_it_is_killed()
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Kill)
            {
                stream.Started();
                stream.Ended(137, 0);
                stream.Send(ProcessMessage.Killed, (byte)KillReport.All);
            }
        });
        using var cancelled = new CancellationTokenSource();
        var starting = guest.StartAsync(new ProcessSpec { Code = "x" }, cancelled.Token);
        await cancelled.CancelAsync();
        var stopped = await Assert.ThrowsAsync<CommandStoppedException>(() => starting.WaitAsync(Patience));
        Assert.Equal(CommandOutcome.Killed, stopped.Stop.Outcome);
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task An_agent_that_is_lost_in_the_middle_is_told_and_nothing_is_repeated(bool isEnd)
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
                stream.Output(0, 1, 1);
            }
        });
        await using var process = await guest.StartAsync(new ProcessSpec { Code = "x", HasInput = true }, default);
        Assert.NotNull(await process.ReadAsync(default));
        if (isEnd)
        {
            connection.Last.End();
        }
        else
        {
            connection.Last.Fail("it broke");
            // A writer that finds out first does not take the reader's error away.
            await Assert.ThrowsAsync<PandoraException>(() => process.WriteInputAsync(new byte[1], default));
        }

        for (var i = 0; i < 2; i++)
        {
            var e = await Assert.ThrowsAsync<PandoraException>(() => process.ReadAsync(default).AsTask());
            Assert.Contains("the command may have run in part and was not repeated", e.Message);
            Assert.Equal((PandoraError.GuestUnreachable, CommandOutcome.Unknown, false), (e.Error, e.Command, e.Stop!.HasAnswered));
        }

        Assert.Equal(CommandOutcome.Unknown, (await process.KillAsync()).Outcome);
        Assert.Single(connection.Streams);
    }

    [Fact]
    public async Task A_message_that_was_cut_is_the_last_one()
    {
        var (guest, connection) = Guest(StartOnly);
        await using var process = await guest.StartAsync(new ProcessSpec { Code = "x", HasInput = true }, default);
        connection.Last.Room = 100;
        using var cancelled = new CancellationTokenSource();
        var writing = process.WriteInputAsync(new byte[1000], cancelled.Token);
        await cancelled.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writing.WaitAsync(Patience));
        connection.Last.Room = int.MaxValue;
        await Assert.ThrowsAsync<PandoraException>(() => process.SignalAsync(15, default).WaitAsync(Patience));
        Assert.Equal([ProcessMessage.Start], connection.Last.Received);
    }

    [Fact]
    public async Task Signals_sizes_and_the_end_of_input_are_sent()
    {
        List<(ProcessMessage, byte[])> messages = [];
        var (guest, _) = Guest((stream, kind, body) =>
        {
            messages.Add((kind, body));
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
            }
            else if (kind is ProcessMessage.Signal or ProcessMessage.Resize or ProcessMessage.EndInput)
            {
                stream.Send(ProcessMessage.Done, kind == ProcessMessage.Resize ? (byte)0 : (byte)1);
            }
            else
            {
                stream.Taken(2);
            }
        });
        var process = await guest.StartAsync(new ProcessSpec { Code = "x", HasInput = true, Terminal = (80, 24) }, default);
        using var over = new CancellationTokenSource();
        var reading = process.ReadToEndAsync(over.Token);
        Assert.True(await process.SignalAsync(15, default).WaitAsync(Patience));
        Assert.False(await process.ResizeAsync(65_535, 1, default).WaitAsync(Patience));
        await process.WriteInputAsync("in"u8.ToArray(), default);
        Assert.True(await process.WaitForInputAsync(default).WaitAsync(Patience));
        Assert.True(await process.EndInputAsync(default).WaitAsync(Patience));
        await over.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => reading.WaitAsync(Patience));
        Assert.Equal(15, BinaryPrimitives.ReadInt32LittleEndian(messages[1].Item2));
        Assert.Equal(
            [ProcessMessage.Signal, ProcessMessage.Resize, ProcessMessage.Input, ProcessMessage.EndInput],
            messages[1..].Select(m => m.Item1));
        Assert.Equal(["0F000000", "FFFF0100", "696E", ""], messages[1..].Select(m => Convert.ToHexString(m.Item2)));
        await process.DisposeAsync();
        // Nothing of it is left that acts later.
        _time.Advance(TimeSpan.FromDays(1));
        Assert.Equal(5, messages.Count);
    }

    private static void StartOnly(ScriptedStream stream, ProcessMessage kind, byte[] body)
    {
        if (kind == ProcessMessage.Start)
        {
            stream.Started();
        }
    }

    private (AgentGuest Guest, ScriptedConnection Connection) Guest(Action<ScriptedStream, ProcessMessage, byte[]> answer)
    {
        var connection = new ScriptedConnection(answer);
        return (new AgentGuest(connection, ExecWay.Agent, _time), connection);
    }

    private static async Task<(OutputStream, long, string)> NextAsync(IGuestProcess process) =>
        (await process.ReadAsync(default))!.Value is var output
            ? (output.Stream, output.Offset, Encoding.ASCII.GetString(output.Bytes.Span))
            : default;

    private static async Task<long> ReadAllAsync(IGuestProcess process)
    {
        var count = 0L;
        while (await process.ReadAsync(default) is { } output)
        {
            count += output.Bytes.Length;
        }

        return count;
    }
}
