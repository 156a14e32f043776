using System.Text;
using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;

namespace Pandora.Tests.Guests;

/// <summary>Commands over processes: input, outputs, limits.</summary>
public sealed class GuestExecTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly FakeTimeProvider _time = new();

    [Theory]
    [InlineData(1)]
    [InlineData(16 * 1024)]
    [InlineData(64 * 1024)]
    [InlineData((64 * 1024) + 1)]
    [InlineData(5_000_000)]
    public async Task Input_of_any_length_passes_while_output_flows(int length)
    {
        var (at, taken) = (0L, 0L);
        var input = new byte[length];
        new Random(1).NextBytes(input);
        var (guest, connection) = Guest((stream, kind, body) =>
        {
            switch (kind)
            {
                case ProcessMessage.Start:
                    stream.Started();
                    break;
                case ProcessMessage.Input:
                    stream.Output(at, 1, body);
                    at += body.Length;
                    stream.Taken(taken += body.Length);
                    break;
                default:
                    Assert.Equal(ProcessMessage.EndInput, kind);
                    stream.Ended(0, at);
                    break;
            }
        });
        var result = await guest.ExecAsync(new GuestCommand { Code = "cat", Stdin = input }, default).WaitAsync(Patience);
        Assert.Equal(input, result.Stdout.ReadBytes().SelectMany(b => b.ToArray()));
        Assert.Equal((0, false), (result.ExitCode, result.IsTruncated));
        Assert.True(connection.Last.MustForget);
    }

    [Fact]
    public async Task A_process_that_reads_no_input_ends_all_the_same()
    {
        var received = 0;
        var (guest, _) = Guest((stream, kind, body) =>
        {
            received += kind == ProcessMessage.Input ? body.Length : 0;
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
            }
            else if (received == ProcessMessages.InputWindow)
            {
                stream.Output(0, 1, "done"u8.ToArray());
                stream.Ended(3, 4);
            }
        });
        var result = await guest.ExecAsync(new GuestCommand { Code = "x", Stdin = new byte[1_000_000] }, default).WaitAsync(Patience);
        Assert.Equal((3, "done", false), (result.ExitCode, result.Stdout.ToString(), result.IsTruncated));
        Assert.Equal(ProcessMessages.InputWindow, received);
    }

    [Fact]
    public async Task Each_output_has_its_limit_and_is_read_to_the_end()
    {
        var (guest, _) = Guest((stream, _, _) =>
        {
            stream.Started();
            for (var i = 0; i < 1000; i++)
            {
                stream.Output(i * 10, 1, "0123456789"u8.ToArray());
            }

            stream.Output(10_000, 2, "error"u8.ToArray());
            stream.Ended(0, 10_005);
        });
        var result = await guest.ExecAsync(new GuestCommand { Code = "x", OutputLimit = 15 }, default).WaitAsync(Patience);
        Assert.Equal(("012345678901234", "error"), (result.Stdout.ToString(), result.Stderr.ToString()));
        Assert.Equal((true, false), (result.Stdout.IsTruncated, result.Stderr.IsTruncated));
    }

    [Theory]
    [InlineData(0, 5, 9, false, false)]
    [InlineData(1, 6, 10, true, false)]
    [InlineData(0, 6, 10, false, true)]
    [InlineData(0, 5, 10, true, false)] // The last bytes were dropped.
    [InlineData(long.MaxValue / 2, 5, 9, true, true)]
    public async Task Output_that_the_guest_dropped_is_told(long first, long second, long end, bool isStdoutCut, bool isStderrCut)
    {
        var (guest, _) = Guest((stream, _, _) =>
        {
            stream.Started();
            stream.Output(first, 1, "12345"u8.ToArray());
            stream.Output(second, 2, "6789"u8.ToArray());
            stream.Ended(0, end);
        });
        var result = await guest.ExecAsync(new GuestCommand { Code = "x" }, default).WaitAsync(Patience);
        Assert.Equal(("12345", "6789"), (result.Stdout.ToString(), result.Stderr.ToString()));
        Assert.Equal((isStdoutCut, isStderrCut), (result.Stdout.IsTruncated, result.Stderr.IsTruncated));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1_000_000)]
    public async Task A_command_whose_caller_goes_is_killed_and_its_end_told(int input)
    {
        var isRead = new TaskCompletionSource();
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
                stream.Output(0, 1, 1);
                isRead.SetResult();
            }
            else if (kind == ProcessMessage.Kill)
            {
                stream.Ended(137, 1);
                stream.Send(ProcessMessage.Killed, (byte)KillReport.All);
            }
        });
        using var cancelled = new CancellationTokenSource();
        var running = guest.ExecAsync(new GuestCommand { Code = "x", Stdin = new byte[input] }, cancelled.Token);
        await isRead.Task.WaitAsync(Patience);
        await cancelled.CancelAsync();
        var stopped = await Assert.ThrowsAsync<CommandStoppedException>(() => running.WaitAsync(Patience));
        Assert.Equal(CommandOutcome.Killed, stopped.Stop.Outcome);
        Assert.Equal(cancelled.Token, stopped.CancellationToken);
        Assert.True(connection.Last.IsClosed);
    }

    [Fact]
    public async Task A_timeout_keeps_what_was_printed()
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
                stream.Output(0, 2, "so far"u8.ToArray());
            }
            else
            {
                stream.Output(6, 2, "!"u8.ToArray());
                stream.Ended(137, 7);
                stream.Send(ProcessMessage.Killed, (byte)KillReport.All);
            }
        });
        var running = guest.ExecAsync(new GuestCommand { Code = "x", Timeout = TimeSpan.FromSeconds(1) }, default);
        _time.Advance(TimeSpan.FromSeconds(1));
        var result = await running.WaitAsync(Patience);
        Assert.Equal((137, "so far!", CommandOutcome.Killed), (result.ExitCode, result.Stderr.ToString(), result.Stopped!.Outcome));
        Assert.Single(connection.Streams);
    }

    [Fact]
    public async Task A_guest_that_is_lost_while_input_waits_is_an_error_of_the_guest()
    {
        var (guest, _) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
            }
            else
            {
                stream.Fail("it broke");
            }
        });
        var e = await Assert.ThrowsAsync<PandoraException>(
            () => guest.ExecAsync(new GuestCommand { Code = "x", Stdin = new byte[1_000_000] }, default).WaitAsync(Patience));
        Assert.Equal((PandoraError.GuestUnreachable, CommandOutcome.Unknown), (e.Error, e.Command));
    }

    [Fact]
    public async Task A_command_is_a_foreground_process_that_waits_for_its_reader()
    {
        StartRequest? request = null;
        var (guest, _) = Guest((stream, _, body) =>
        {
            request = StartRequest.Decode(body);
            stream.Started();
            stream.Ended(0, 0);
        });
        var code = new StringBuilder().Append('x', 1_000_000).Append("\ud83d\ude00").ToString();
        await guest.ExecAsync(new GuestCommand { Code = code, Merge = true, User = "1000", Cwd = "/" }, default).WaitAsync(Patience);
        Assert.Equal((code, true, true, OutputPolicy.Wait), (request!.Code, request.IsForeground, request.IsMerged, request.Policy));
        Assert.Equal(("1000", "/", false), (request.User, request.Directory, request.HasInput));
    }

    private (AgentGuest Guest, ScriptedConnection Connection) Guest(Action<ScriptedStream, ProcessMessage, byte[]> answer)
    {
        var connection = new ScriptedConnection(answer);
        return (new AgentGuest(connection, ExecWay.Agent, _time), connection);
    }
}
