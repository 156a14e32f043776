using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Guests;

// How a process is killed, and what is known of it then.
public sealed partial class AgentProcessTests
{
    [Theory]
    [InlineData(KillReport.All, CommandOutcome.Killed, "its shell has ended, its cgroup is empty, and no process bears its mark")]
    [InlineData(KillReport.HasEnded | KillReport.HasNoStrays, CommandOutcome.Unknown, "its cgroup has processes that did not die")]
    [InlineData(KillReport.HasEnded | KillReport.IsGroupEmpty, CommandOutcome.Unknown, "lives outside its cgroup")]
    [InlineData(KillReport.IsGroupEmpty | KillReport.HasNoStrays, CommandOutcome.Unknown, "its shell was not seen to end")]
    [InlineData(KillReport.HasEnded, CommandOutcome.Unknown, "did not die, and a process that it started lives outside")]
    [InlineData(KillReport.HasEnded | KillReport.HasNoStrays | KillReport.HasNoGroup, CommandOutcome.Unknown, "the guest has no cgroup v2")]
    [InlineData(KillReport.None, CommandOutcome.Unknown, "its shell was not seen to end: whether it still runs is not known")]
    internal async Task When_its_time_is_over_it_is_killed_and_counts_as_killed_only_if_the_guest_confirms_it(
        KillReport report, CommandOutcome outcome, string words)
    {
        foreach (var isEndFirst in new[] { true, false })
        {
            var (guest, _) = Guest((stream, kind, _) =>
            {
                if (kind == ProcessMessage.Start)
                {
                    stream.Started();
                    return;
                }

                Assert.Equal(ProcessMessage.Kill, kind);
                stream.Output(0, 1, 1);
                if (isEndFirst)
                {
                    stream.Ended(137, 1);
                }

                stream.Send(ProcessMessage.Killed, (byte)report);
                if (!isEndFirst && report.HasFlag(KillReport.HasEnded))
                {
                    stream.Ended(137, 1);
                }
            });
            await using var process = await guest.StartAsync(
                new ProcessSpec { Code = "x", TimeLimit = Limit, IsForeground = true }, default);
            var reading = ReadAllAsync(process);
            Assert.False(reading.IsCompleted);
            _time.Advance(Limit);
            Assert.Equal(1, await reading.WaitAsync(Patience));
            var stop = process.End!.Stopped!;
            Assert.Equal((137, outcome, true), (process.End.ExitCode, stop.Outcome, stop.HasAnswered));
            Assert.Contains(words, stop.Words);
            Assert.Equal(outcome == CommandOutcome.Killed, !stop.Words.Contains("not known", StringComparison.Ordinal));
            Assert.Equal(stop, await process.KillAsync());
        }
    }

    [Fact]
    public async Task The_agent_says_what_it_found_after_it_killed_a_process_at_its_own_limit()
    {
        var report = KillReport.All;
        var (guest, _) = Guest((stream, _, _) =>
        {
            stream.Started();
            stream.Send(ProcessMessage.Ended, new EndReport(137, true, false, 0, 0) { Kill = report }.Encode());
        });
        await using var process = await guest.StartAsync(new ProcessSpec { Code = "x", TimeLimit = Limit }, default);
        // A background process's limit is the agent's.
        _time.Advance(2 * Limit);
        Assert.Equal(0, await ReadAllAsync(process));
        Assert.Equal((137, CommandOutcome.Killed), (process.End!.ExitCode, process.End.Stopped!.Outcome));
        report = KillReport.None;
        await using var other = await guest.StartAsync(new ProcessSpec { Code = "x", TimeLimit = Limit }, default);
        Assert.Equal(0, await ReadAllAsync(other));
        Assert.Equal((137, CommandOutcome.Unknown), (other.End!.ExitCode, other.End.Stopped!.Outcome));
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task A_kill_that_is_not_answered_leaves_the_process_unreachable(bool isFlood)
    {
        var (guest, connection) = Guest(StartOnly);
        await using var process = await guest.StartAsync(new ProcessSpec { Code = "x", TimeLimit = Limit, IsForeground = true }, default);
        if (isFlood)
        {
            connection.Last.Flood = ProcessMessages.Encode(ProcessMessage.Output, [0, 0, 0, 0, 0, 0, 0, 0, 1, 1]);
        }

        var reading = Task.Run(() => ReadAllAsync(process));
        _time.Advance(Limit);
        await FakeNode.UntilAsync(() => connection.Last.Received.Contains(ProcessMessage.Kill));
        _time.Advance(AgentProcess.KillLimit - TimeSpan.FromMilliseconds(1));
        Assert.False(reading.IsCompleted);
        _time.Advance(TimeSpan.FromMilliseconds(1));
        await reading.WaitAsync(Patience);
        var stop = process.End!.Stopped!;
        Assert.Equal((137, CommandOutcome.Unreachable, false), (process.End.ExitCode, stop.Outcome, stop.HasAnswered));
        Assert.Equal(stop, await process.KillAsync());
    }

    [Fact]
    public async Task An_unanswered_kill_of_a_caller_is_unreachable()
    {
        var (guest, connection) = Guest(StartOnly);
        await using var process = await guest.StartAsync(new ProcessSpec { Code = "x" }, default);
        var killing = process.KillAsync();
        await FakeNode.UntilAsync(() => connection.Last.Received.Contains(ProcessMessage.Kill));
        _time.Advance(AgentProcess.KillLimit);
        var stop = await killing.WaitAsync(Patience);
        Assert.Equal((CommandOutcome.Unreachable, false), (stop.Outcome, stop.HasAnswered));
    }

    [Fact]
    public async Task Input_that_the_process_does_not_read_keeps_no_kill_from_the_guest()
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            if (kind == ProcessMessage.Start)
            {
                stream.Started();
            }
            else if (kind == ProcessMessage.Kill)
            {
                stream.Ended(137, 0);
                stream.Send(ProcessMessage.Killed, (byte)KillReport.All);
            }
        });
        await using var process = await guest.StartAsync(
            new ProcessSpec { Code = "x", HasInput = true, TimeLimit = Limit, IsForeground = true }, default);
        var writing = process.WriteInputAsync(new byte[1_000_000], default);
        var reading = ReadAllAsync(process);
        Assert.Equal(ProcessMessages.InputWindow / (16 * 1024), connection.Last.Received.Count(k => k == ProcessMessage.Input));
        Assert.False(writing.IsCompleted);
        connection.Last.Taken(ProcessMessages.InputWindow / 2);
        await FakeNode.UntilAsync(() => connection.Last.Received.Count(k => k == ProcessMessage.Input) == 6);
        _time.Advance(Limit);
        await reading.WaitAsync(Patience);
        Assert.Equal(CommandOutcome.Killed, process.End!.Stopped!.Outcome);
        await writing.WaitAsync(Patience);
    }
}
