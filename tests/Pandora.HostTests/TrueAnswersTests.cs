using System.Diagnostics;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>
/// Guests that no longer run commands, and commands that escape their kill: each answer of the server must agree with the guest's state.
/// </summary>
public sealed class TrueAnswersTests(TrueAnswersFixture fixture) : IClassFixture<TrueAnswersFixture>
{
    // The server waits 5 s for the command's end. The rest is for a slow machine.
    private const double MostAfterTimeout = 5 + 20;
    private static readonly TimeSpan Slow = TimeSpan.FromSeconds(20);

    private ServerProcess Server => fixture.Server;

    [Fact]
    public async Task A_guest_that_powered_itself_off_is_gone()
    {
        await using var sandbox = await CreateAsync();
        if (TestVmm.IsFirecracker)
        {
            // Firecracker does not notice, so its guest behaves like one that halted.
            var timeout = await TimesOutAsync(sandbox, "/usr/lib/pandora/busybox poweroff -f; sleep 60");
            Assert.Equal(CommandStates.Unreachable, timeout.Command);
            return;
        }

        var pid = Server.VmmPidOf(sandbox.Id);
        Assert.Contains(
            "powered itself off",
            (
                await Assert.ThrowsAsync<SandboxGoneException>(() =>
                    sandbox.ExecAsync(
                        "/usr/lib/pandora/busybox poweroff -f; sleep 300", new ExecOptions { Timeout = TimeSpan.FromSeconds(60) }))
            ).Message);
        await UntilAsync(() => !Directory.Exists($"/proc/{pid}"));
    }

    [Fact]
    public async Task A_guest_that_halted_is_unreachable_and_runs_no_more_commands()
    {
        await using var sandbox = await CreateAsync();
        var timeout = await TimesOutAsync(sandbox, "echo halting; /usr/lib/pandora/busybox halt -f; sleep 60");
        Assert.Equal((CommandStates.Unreachable, "halting\n"), (timeout.Command, timeout.Stdout));
        Assert.True(Directory.Exists($"/proc/{Server.VmmPidOf(sandbox.Id)}"), "its VMM ended");
        // The next command may fail before it is sent.
        Assert.Contains((await TimesOutAsync(sandbox, "true")).Command, new[] { CommandStates.NotStarted, CommandStates.Unreachable });
    }

    [Fact]
    public async Task A_command_in_a_guest_whose_agent_is_stopped_is_reported_as_unreachable_and_keeps_running()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync(Outside(
            "until [ -e /root/go ]; do sleep 0.1; done; sleep 1; pkill -STOP -x agent; sleep 30; "
                + "pgrep -fcx \"sleep 611\" > /root/seen; pkill -CONT -x agent"));
        var timeout = await TimesOutAsync(sandbox, "echo began; touch /root/go; sleep 611", seconds: 12);
        Assert.Equal((CommandStates.Unreachable, "began\n"), (timeout.Command, timeout.Stdout));
        Assert.DoesNotContain("was killed", timeout.Message);
        Assert.Contains("whether it still runs is not known", timeout.Message);
        // The command still ran after the answer. The sandbox works again when its agent does.
        Assert.Equal("1\n", await LaterAsync(sandbox, "cat /root/seen"));
        Assert.Equal("0\n", await LaterAsync(sandbox, "echo $?"));
    }

    [Fact]
    public async Task A_command_whose_cgroup_is_frozen_is_killed()
    {
        await using var sandbox = await CreateAsync();
        var timeout = await TimesOutAsync(
            sandbox, "sleep 612 & echo began; echo 1 > /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.freeze; sleep 613");
        Assert.Equal((CommandStates.Killed, "began\n"), (timeout.Command, timeout.Stdout));
        Assert.Equal("0\n", (await sandbox.ExecAsync("pgrep -cx sleep")).Stdout);
    }

    [Fact]
    public async Task A_command_that_would_start_in_a_frozen_cgroup_is_refused_and_does_not_run()
    {
        await using var sandbox = await CreateAsync();
        const string Freeze = "/sys/fs/cgroup/exec/cgroup.freeze";
        // All commands are frozen when this call returns. The shell that freezes them, and the shell that waits for it, first leave the
        // commands' cgroups.
        await sandbox.ExecAsync($"""
            for p in $PPID 0; do echo $p > /sys/fs/cgroup/cgroup.procs; done
            {Outside($"sleep 20; echo 0 > {Freeze}")}
            echo 1 > {Freeze}
            """);
        var refused = await Assert.ThrowsAsync<PandoraApiException>(() => sandbox.ExecAsync("echo ran > /root/ran; sleep 614"));
        Assert.Equal((ErrorCodes.GuestUnreachable.Code, CommandStates.NotStarted), (refused.Code, refused.CommandState));
        Assert.Contains("has frozen", refused.Message);
        Assert.Equal("absent\n", await LaterAsync(sandbox, "[ -e /root/ran ] || echo absent"));
    }

    [Theory]
    [InlineData("echo 0 > /sys/fs/cgroup/cgroup.procs; sleep 615")]
    [InlineData("(echo 0 > /sys/fs/cgroup/cgroup.procs; exec sleep 615) > /dev/null 2>&1 & sleep 616")]
    [InlineData("setsid -f bash -c 'echo 0 > /sys/fs/cgroup/cgroup.procs; exec sleep 615' > /dev/null 2>&1; sleep 616")]
    [InlineData("mkfifo /tmp/f; (echo 0 > /sys/fs/cgroup/cgroup.procs; : sleep 615; read -r < /tmp/f) > /dev/null 2>&1 & sleep 616")]
    public async Task A_process_that_left_its_cgroup_is_found_by_its_mark_and_killed(string code)
    {
        await using var sandbox = await CreateAsync();
        Assert.Equal(CommandStates.Killed, (await TimesOutAsync(sandbox, code, seconds: 3)).Command);
        Assert.Equal("0\n", (await sandbox.ExecAsync("pgrep -fc '[s]leep 61[56]'; true")).Stdout);
    }

    [Fact]
    public async Task A_process_of_an_earlier_command_is_not_counted_for_a_later_command()
    {
        await using var sandbox = await CreateAsync();
        await sandbox.ExecAsync("sleep 617 > /dev/null 2>&1 &");
        Assert.Equal(CommandStates.Killed, (await TimesOutAsync(sandbox, "sleep 618 & sleep 619")).Command);
        Assert.Equal("1\n", (await sandbox.ExecAsync("pgrep -cx sleep")).Stdout);
    }

    [Fact]
    public async Task After_the_death_of_the_agent_the_answer_says_what_happened_to_the_command()
    {
        await using var sandbox = await CreateAsync();
        var broken = await Assert.ThrowsAsync<PandoraApiException>(() =>
            sandbox.ExecAsync(
                "setsid sleep 623 & kill -9 $PPID; sleep 624", new ExecOptions { Timeout = TimeSpan.FromSeconds(20) }));
        Assert.Equal(
            (ErrorCodes.GuestUnreachable.Status, ErrorCodes.GuestUnreachable.Code, CommandStates.Unknown),
            (broken.Status, broken.Code, broken.CommandState));
        Assert.Contains("not repeated", broken.Message);
        // PID 1 starts the agent again. What the first one ran is unknown, and may live on.
        Assert.Equal("on\n", await LaterAsync(sandbox, "echo on"));
    }

    [Fact]
    public async Task Repeated_attempts_do_not_keep_a_dead_guest_alive()
    {
        await using var halted = await CreateAsync();
        await using var deaf = await CreateAsync();
        await using var healthy = await CreateAsync();
        await Assert.ThrowsAsync<ExecTimeoutException>(() =>
            halted.ExecAsync("/usr/lib/pandora/busybox halt -f; sleep 60", new ExecOptions { Timeout = TimeSpan.FromSeconds(5) }));
        // The guest's root may remove the agent. To the server, that guest looks like one that hangs.
        var deafSince = Stopwatch.GetTimestamp();
        await Assert.ThrowsAnyAsync<PandoraApiException>(() =>
            deaf.ExecAsync("rm /usr/lib/pandora/agent; pkill -x agent", new ExecOptions { Timeout = TimeSpan.FromSeconds(5) }));
        await using var stopped = await CreateAsync(idle: 10);
        await stopped.ExecAsync(Outside("sleep 0.3; pkill -STOP -x agent"));
        await UntilAsync(async () => await DoesTimeOutAsync(stopped));
        var start = Stopwatch.GetTimestamp();
        var ends = await Task.WhenAll(RetryAsync(halted, 3), RetryAsync(stopped, 3), GoneAsync(deaf));
        Assert.Equal(ErrorCodes.SandboxGone.Code, ends[0].Problem.Code);
        Assert.Contains("its guest's agent has not answered for 60 s", ends[0].Problem.Detail);
        Assert.Equal(ErrorCodes.SandboxNotFound.Code, ends[1].Problem.Code);
        Assert.Contains("nothing that was tried in it worked for 10 s", ends[1].Problem.Detail);
        Assert.Contains("its guest's agent has not answered for 60 s", ends[2].Problem.Detail);
        Assert.True(ends[0].After < TimeSpan.FromSeconds(90) + Slow, $"halted: {ends[0].After}");
        Assert.InRange(ends[1].After, TimeSpan.Zero, TimeSpan.FromSeconds(25) + Slow);
        // The 60 s begin with the agent's last answer, which the server may have had some seconds before the agent died.
        Assert.InRange(
            ends[2].After + Stopwatch.GetElapsedTime(deafSince, start), TimeSpan.FromSeconds(45), TimeSpan.FromSeconds(90) + Slow);
        Assert.Equal(0, (await healthy.ExecAsync("true")).ExitCode);
        TestContext.Current.TestOutputHelper!.WriteLine(
            $"halted {ends[0].After}, agent stopped {ends[1].After}, no agent {ends[2].After}");

        async Task<(ApiProblem Problem, TimeSpan After)> RetryAsync(Sandbox sandbox, int clients) =>
            (await Task.WhenAll(Enumerable.Range(0, clients).Select(_ => GoneAsync(sandbox))))[0];

        async Task<(ApiProblem Problem, TimeSpan After)> GoneAsync(Sandbox sandbox)
        {
            while (true)
            {
                Assert.True(Stopwatch.GetElapsedTime(start) < TimeSpan.FromSeconds(150), "the sandbox never ends");
                try
                {
                    await sandbox.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromSeconds(1) });
                }
                catch (PandoraApiException e) when (e is SandboxGoneException or SandboxNotFoundException)
                {
                    return (e.Wire, Stopwatch.GetElapsedTime(start));
                }
                catch (PandoraApiException e)
                {
                    Assert.True(sandbox == deaf || e.CommandState is CommandStates.Unreachable or CommandStates.NotStarted, e.Message);
                    Assert.Contains(e.Status!.Value, new[] { 502, 504 });
                }

                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
            }
        }
    }

    // Runs code outside its command: not in the command's cgroup, without its mark in the environment, and without its output pipes.
    private static string Outside(string code) =>
        "env -u __PANDORA_COMMAND setsid bash -c 'echo 0 > /sys/fs/cgroup/cgroup.procs; exec > /dev/null 2>&1 < /dev/null; "
            + $"{code}' &";

    private Task<Sandbox> CreateAsync(int idle = 300) =>
        Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(idle) });

    private static async Task<ExecTimeoutException> TimesOutAsync(Sandbox sandbox, string code, int seconds = 8)
    {
        var start = Stopwatch.GetTimestamp();
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() =>
            sandbox.ExecAsync(code, new ExecOptions { Timeout = TimeSpan.FromSeconds(seconds) }));
        var elapsed = Stopwatch.GetElapsedTime(start).TotalSeconds;
        Assert.True(elapsed < seconds + MostAfterTimeout, $"answered after {elapsed} s");
        Assert.Equal(504, timeout.Status);
        TestContext.Current.TestOutputHelper!.WriteLine($"{timeout.Command} after {elapsed:0.0} s: {timeout.Message}");
        return timeout;
    }

    private static async Task<bool> DoesTimeOutAsync(Sandbox sandbox)
    {
        try
        {
            await sandbox.ExecAsync("true", new ExecOptions { Timeout = TimeSpan.FromSeconds(1) });
            return false;
        }
        catch (ExecTimeoutException e)
        {
            // A slow guest's agent answers that it has killed the command.
            return e.Command == CommandStates.Unreachable;
        }
    }

    // Repeats a command until the guest is reachable again; its output.
    private static async Task<string> LaterAsync(Sandbox sandbox, string code)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(90), TimeProvider.System);
        while (true)
        {
            try
            {
                return (await sandbox.ExecAsync(code, new ExecOptions { Timeout = TimeSpan.FromSeconds(5) }, limit.Token)).Stdout;
            }
            catch (PandoraApiException e) when (e.Status is 502 or 504)
            {
                TestContext.Current.TestOutputHelper!.WriteLine($"not yet: {e.Message}");
                await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, limit.Token);
            }
        }
    }

    private static Task UntilAsync(Func<bool> condition) => UntilAsync(() => Task.FromResult(condition()));

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
        }
    }
}

/// <summary>A server with a pool of three, so that the next sandbox is ready.</summary>
public sealed class TrueAnswersFixture : ServerFixture
{
    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "3" };
}
