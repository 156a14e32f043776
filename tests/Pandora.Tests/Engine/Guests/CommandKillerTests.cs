using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging.Abstractions;
using Microsoft.Extensions.Time.Testing;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Fakes;
using Renci.SshNet;

namespace Pandora.Tests.Guests;

/// <summary>
/// The answer of a guest that was asked to kill a command, and the script that makes this answer. The host's bash runs the script on a
/// directory with the files of cgroups.
/// </summary>
public sealed class CommandKillerTests : IDisposable
{
    private readonly string _groups = Directory.CreateTempSubdirectory("pandora-test-").FullName;

    public void Dispose() => Directory.Delete(_groups, recursive: true);

    [Theory]
    [InlineData("empty 7\nleft \nend\n", true, CommandOutcome.Killed)]
    [InlineData("empty 7 8\nleft 8\nend\n", true, CommandOutcome.Killed)]
    [InlineData("empty 7\nleft \nend\n", false, CommandOutcome.Unknown)]
    [InlineData("empty\nleft \nend\n", true, CommandOutcome.Unknown)]
    [InlineData("empty 77\nleft \nend\n", true, CommandOutcome.Unknown)]
    [InlineData("empty 7\nleft 7\nend\n", true, CommandOutcome.Unknown)]
    [InlineData("empty 7\nleft \n", true, CommandOutcome.Unknown)]
    [InlineData("empty 7\n", true, CommandOutcome.Unknown)]
    [InlineData("", true, CommandOutcome.Unknown)]
    [InlineData("garbage", true, CommandOutcome.Unknown)]
    [InlineData("end\nempty 7\nleft \nend\n", true, CommandOutcome.Unknown)]
    public void A_command_counts_as_killed_only_if_the_guest_confirms_it(string answer, bool hasShellGone, CommandOutcome outcome)
    {
        var stop = CommandKiller.Interpret(answer, 7, hasShellGone);
        Assert.Equal(outcome, stop.Outcome);
        Assert.Equal(outcome == CommandOutcome.Killed, !stop.Words.Contains("not known", StringComparison.Ordinal));
        Assert.True(stop.HasAnswered);
    }

    [Fact]
    public void The_script_kills_each_command_and_lists_the_empty_cgroups()
    {
        Group(1, "0");
        Group(2, "1");
        var answer = Kill([(1, "aaaa"), (2, "bbbb"), (3, "cccc")]);
        // The third cgroup does not exist.
        Assert.Equal("empty 1 3\nleft \nend\n", answer);
        Assert.Equal("1\n", File.ReadAllText(Path.Combine(_groups, "1", "cgroup.kill")));
        Assert.Equal("1\n", File.ReadAllText(Path.Combine(_groups, "2", "cgroup.kill")));
    }

    [Fact]
    public void A_process_with_the_tag_is_found_outside_its_cgroup()
    {
        Group(1, "0");
        Group(2, "0");
        var tag = $"{Guid.NewGuid():N}";
        using var escaped = Process.Start(new ProcessStartInfo("sleep", ["60"]) { Environment = { [ExecScript.TagVariable] = tag } })!;
        try
        {
            Assert.Equal("empty 1 2\nleft 2\nend\n", Kill([(1, "aaaa"), (2, tag)]));
        }
        finally
        {
            escaped.Kill();
            escaped.WaitForExit();
        }

        Assert.Equal("empty 1 2\nleft \nend\n", Kill([(1, "aaaa"), (2, tag)]));
    }

    [Fact]
    public void A_subshell_without_the_tag_in_its_environment_is_found_by_its_command_line()
    {
        Group(1, "0");
        var tag = $"{Guid.NewGuid():N}";
        using var escaped = Process.Start(
            new ProcessStartInfo("bash", ["-c", $"export {ExecScript.TagVariable}={tag}; (read -rt 60 <> <(:)); true"]))!;
        try
        {
            Assert.Equal("empty 1\nleft 1\nend\n", Kill([(1, tag)]));
        }
        finally
        {
            escaped.Kill(entireProcessTree: true);
            escaped.WaitForExit();
        }
    }

    [Fact]
    public void Without_cgroups_none_is_reported_empty() =>
        Assert.Equal(
            "", Bash(ExecScript.Kill([(1, "aaaa")], 2).Replace("/sys/fs/cgroup/exec", "/no/such/place", StringComparison.Ordinal)));

    [Fact]
    public async Task A_silent_guest_has_the_full_time_limit_for_each_batch()
    {
        var silent = new SilentGuest();
        var first = silent.KillAsync();
        await FakeNode.UntilAsync(() => silent.Asked == 1);
        silent.Time.Advance(TimeSpan.FromSeconds(2));
        var second = silent.KillAsync();
        silent.Time.Advance(CommandKiller.Limit - TimeSpan.FromSeconds(2));
        Assert.Equal((CommandOutcome.Unreachable, false), ((await first).Outcome, (await first).HasAnswered));
        await FakeNode.UntilAsync(() => silent.Asked == 2);

        // Only now the guest is asked for the second command, whose caller has already waited for a while.
        silent.Time.Advance(CommandKiller.Limit - TimeSpan.FromSeconds(1));
        await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, TestContext.Current.CancellationToken);
        Assert.False(second.IsCompleted, "the guest is reported silent before its time limit");
        silent.Time.Advance(TimeSpan.FromSeconds(1));
        Assert.Equal(CommandOutcome.Unreachable, (await second).Outcome);
    }

    [Fact]
    public async Task A_guest_that_was_not_asked_is_not_reported_silent()
    {
        var silent = new SilentGuest();
        var first = silent.KillAsync();
        await FakeNode.UntilAsync(() => silent.Asked == 1);
        silent.Time.Advance(TimeSpan.FromSeconds(1));
        var more = Enumerable.Range(0, CommandKiller.MostAtOnce + 1).Select(_ => silent.KillAsync()).ToList();
        silent.Time.Advance(CommandKiller.Limit - TimeSpan.FromSeconds(1));
        await first;
        await FakeNode.UntilAsync(() => silent.Asked == 2);
        silent.Time.Advance(CommandKiller.QueueLimit - CommandKiller.Limit + TimeSpan.FromSeconds(1));
        var last = await more[^1];
        Assert.Equal((CommandOutcome.Unknown, false), (last.Outcome, last.HasAnswered));
        Assert.Contains("has not been asked yet", last.Words);

        // The command is killed when its turn comes, even if its caller no longer waits.
        silent.Time.Advance(CommandKiller.Limit);
        Assert.All(await Task.WhenAll(more[..^1]), s => Assert.Equal(CommandOutcome.Unreachable, s.Outcome));
        await FakeNode.UntilAsync(() => silent.Asked == 3);
    }

    [Fact]
    public void The_script_for_the_largest_batch_fits_into_a_command()
    {
        var script = ExecScript.Kill(
            [.. Enumerable.Range(0, CommandKiller.MostAtOnce).Select(i => (100_000_000 + i, new string('f', 16)))], 40);
        Assert.True(script.Length < ExecScript.MaxCommandBytes, $"{script.Length} bytes");
    }

    private void Group(int number, string populated)
    {
        var path = Directory.CreateDirectory(Path.Combine(_groups, $"{number}")).FullName;
        File.WriteAllText(Path.Combine(path, "cgroup.events"), $"populated {populated}\nfrozen 0\n");
    }

    private string Kill((int, string)[] commands) =>
        Bash(ExecScript.Kill(commands, 3).Replace("/sys/fs/cgroup/exec", _groups, StringComparison.Ordinal));

    private static string Bash(string script)
    {
        // Standard input stays open, as that of an SSH channel does.
        using var bash = Process.Start(
            new ProcessStartInfo("bash", ["-c", script]) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
        var output = bash.StandardOutput.ReadToEnd();
        bash.WaitForExit();
        return output;
    }

    // A guest without an open connection, in which none can be opened. So no field of a command is read.
    private sealed class SilentGuest
    {
        private readonly CommandKiller _killer;
        private int _asked;

        [SuppressMessage("Reliability", "CA2000",
            Justification = "a SemaphoreSlim holds nothing to free until its wait handle is read")]
        public SilentGuest() => _killer = new CommandKiller(
            () => new SshClient("127.0.0.1", "root", "x"), ConnectAsync, _ => { }, new SemaphoreSlim(1, 1), Time, NullLogger.Instance);

        public FakeTimeProvider Time { get; } = new();

        public int Asked => Volatile.Read(ref _asked);

        public Task<CommandStop> KillAsync() => _killer.KillAsync(null!);

        private async Task<SshClient> ConnectAsync(CancellationToken cancellationToken)
        {
            Interlocked.Increment(ref _asked);
            await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
            throw new InvalidOperationException();
        }
    }
}
