using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

// Processes and signals.
public abstract partial class CommandContract
{
    private const string Victim = "victim; sleep 30; echo never";

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task A_signal_to_its_process_group_reaches_only_the_command_itself(string? user)
    {
        await OutputAsync("sleep 1001 & setsid sleep 1002 &", As(user));
        var others = new[] { null, "user", "nobody" }
            .Select((other, i) => OutputAsync(
                $"echo > /tmp/on{i}; until [ -e /tmp/go ]; do sleep 0.5; done; echo unharmed", As(other, seconds: 300)))
            .ToList();
        await UntilAsync("ls /tmp/on? | wc -l", "3\n");
        await EndAsBashAnywhereAsync(
            [
                ("trap 'kill 0' EXIT; sleep 60 & exit 0", 143, ""),
                ("python3 -c 'import os; os.killpg(os.getpgrp(), 15)'", 143, ""),
                ("python3 -c 'import os; os.killpg(os.getpgrp(), 15)'; echo never", 143, ""),
                ("echo before; kill 0; echo never", 143, "before\n"),
                ("kill -KILL 0", 137, ""),
                ("kill -HUP -- -$$; echo never", 129, ""),
                ("kill -INT 0; echo never", 130, ""),
                ("sleep 60 | sh -c 'kill 0'; echo never", 143, ""),
                ("trap 'echo caught' TERM; kill 0; echo on", 0, "caught\non\n"),
                ("trap '' TERM; kill 0; echo on", 0, "on\n"),
                ("timeout 0.5 sleep 60; echo $?", 0, "124\n"),
                ("set -m; sleep 60 & kill %1; wait %1 2> /dev/null; echo $?", 0, "143\n"),
            ],
            user);
        await OutputAsync("touch /tmp/go");
        Assert.All(await Task.WhenAll(others), o => Assert.Equal("unharmed\n", o));
        Assert.Equal("1001 1002\n", await SleepersAsync());
    }

    [Fact]
    public async Task A_user_who_kills_all_processes_kills_only_that_users()
    {
        await OutputAsync("sleep 1003 &");
        await OutputAsync("sleep 1004 &", As("user"));
        var other = RunAsync("sleep 1005; echo never", As("user"));
        await UntilAsync("pgrep -cx sleep", "3\n");
        // kill(2): the process that asks is spared.
        Assert.Equal("on\n", await OutputAsync("kill -KILL -1; echo on", As("user")));
        Assert.Equal(137, (await other).ExitCode);
        Assert.Equal("1003\n", await SleepersAsync());
        Assert.Equal("on\n", await OutputAsync("echo on", As("user")));
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public Task A_command_ends_as_bash_anywhere_does(string? user) => EndAsBashAnywhereAsync(
        [
            ("echo before; pkill -f no_such_thing; echo after", 143, "before\n"),
            ("echo before; pkill -KILL -f no_such_thing || true", 137, "before\n"),
            ("echo before; (pkill -HUP -f no_such_thing); echo after", 129, "before\n"),
            ("echo before; pkill -f no_such_thin[g]; echo $?", 0, "before\n1\n"),
            ("bash -c 'kill -9 $PPID'; echo after", 137, ""),
            ("python3 -c 'import os; os.kill(os.getppid(), 9)'; echo after", 137, ""),
            ("kill -USR1 $$; echo after", 138, ""),
            ("kill -34 $$", 162, ""),
            ("exec kill -9 $$", 137, ""),
            ("ulimit -c 0; kill -SEGV $$", 139, ""),
            ("(sleep 0.5; kill -CONT $$) & kill -STOP $$; echo on", 0, "on\n"),
            ("ulimit -t 1; while :; do :; done", 137, ""),
            ("sleep 60 & kill $!; wait $!; exit", 143, ""),
            ("trap 'echo bye' EXIT; kill $$", 143, "bye\n"),
            ("trap 'exit 9' USR1; kill -USR1 $$; exit 1", 9, ""),
            ("exec true; echo never", 0, ""),
            ("exec nosuchcommand; echo never", 127, ""),
            ("/etc/passwd", 126, ""),
            ("exit 256", 0, ""),
            ("exit -1", 255, ""),
            ("return 5", 2, ""),
            ("if", 2, ""),
            ("false | true", 0, ""),
            ("set -eo pipefail; false | true; echo never", 1, ""),
            ("exec > /dev/null 2>&1; echo lost; exit 6", 6, ""),
            ("exec < /dev/null >&- 2>&-; exit 7", 7, ""),
            ("yes | head -n1; echo ${PIPESTATUS[@]}", 0, "y\n141 0\n"),
            ("", 0, ""),
        ],
        user);

    // A guest without bash may run code with its sh, so both are gone.
    [Theory]
    [InlineData("mv /bin/bash /bin/bash.away; mv /bin/dash /bin/dash.away", null)]
    [InlineData("chmod 644 /bin/bash /bin/dash", null)]
    [InlineData("for s in bash dash; do cp /dev/null /bin/new; chmod 755 /bin/new; mv /bin/new /bin/$s; done", null)]
    [InlineData("chmod 700 /bin/bash /bin/dash", "user")]
    public async Task A_command_that_did_not_start_is_an_error_and_never_a_success(string prevent, string? user)
    {
        await OutputAsync(prevent);
        var error = await Assert.ThrowsAnyAsync<PandoraApiException>(() => RunAsync("echo ran > /tmp/ran", As(user, seconds: 10)));
        Assert.DoesNotContain(error.Code, new[] { ErrorCodes.ExecTimeout.Code, ErrorCodes.Internal.Code });
        Assert.Equal("running", (await Sandbox.GetAsync()).State);
        if (user is not null)
        {
            Assert.Equal("on\n", await OutputAsync("echo on; ls /tmp/ran 2> /dev/null || true"));
        }
    }

    [Fact]
    public async Task A_command_for_which_the_guest_has_no_process_is_an_error_and_later_ones_run()
    {
        // Threads of the kernel count, too, and are more than 30.
        await OutputAsync(
            "m=$(cat /proc/sys/kernel/threads-max); (sleep 25; echo $m > /proc/sys/kernel/threads-max) > /dev/null 2>&1 & "
                + "sleep 0.5; echo 30 > /proc/sys/kernel/threads-max");
        var error = await Assert.ThrowsAnyAsync<PandoraApiException>(() => RunAsync("echo once >> /tmp/once", As(null, seconds: 5)));
        Assert.NotEqual(ErrorCodes.Internal.Code, error.Code);
        await UntilCommandsRunAsync();
        Assert.Equal("", await OutputAsync("cat /tmp/once 2> /dev/null || true"));
    }

    [Fact]
    public async Task A_command_whose_parent_was_killed_is_no_success_and_is_not_repeated()
    {
        var error = await Assert.ThrowsAnyAsync<PandoraApiException>(() =>
            RunAsync("echo once >> /tmp/times; kill -9 $PPID; sleep 10", As(null, seconds: 30)));
        Assert.Equal(ErrorCodes.GuestUnreachable.Code, error.Code);
        Assert.NotEqual(CommandStates.NotStarted, error.CommandState);
        await UntilCommandsRunAsync();
        Assert.Equal("once\n", await OutputAsync("cat /tmp/times"));
    }

    [Fact]
    public async Task In_a_storm_of_commands_whose_shells_are_killed_the_others_are_unharmed()
    {
        var killing = RunAsync("until [ -e /tmp/end ]; do pkill -KILL -f 'vi[c]tim; sleep'; sleep 0.3; done", As(null, seconds: 300));
        using var permits = new SemaphoreSlim(6);
        async Task<string> RunOneAsync(int i)
        {
            await permits.WaitAsync();
            try
            {
                var user = i % 3 == 0 ? null : "user";
                var result = await RunAsync(i % 2 == 0 ? $": {Victim}" : $"sleep 1; echo {i}", As(user, seconds: 60));
                return $"{i}: {result.ExitCode} {result.Stdout}";
            }
            finally
            {
                permits.Release();
            }
        }

        var results = await Task.WhenAll(Enumerable.Range(0, 60).Select(RunOneAsync));
        await OutputAsync("touch /tmp/end");
        Assert.Equal(Enumerable.Range(0, 60).Select(i => i % 2 == 0 ? $"{i}: 137 " : $"{i}: 0 {i}\n"), results);
        Assert.Equal(0, (await killing).ExitCode);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task A_shells_own_time_limit_ends_nothing_else(string? user)
    {
        var options = As(user);
        options.Environment = new Dictionary<string, string> { ["TMOUT"] = "1" };
        Assert.Equal("set 1\n", await OutputAsync("echo set $TMOUT", options));
        await EndAsBashAnywhereAsync(
            [
                ("export TMOUT=1; exit 3", 3, ""),
                ("TMOUT=1; read line < <(sleep 60); echo $?", 0, "142\n"),
                ("TMOUT=1; sleep 2; echo slept", 0, "slept\n"),
            ],
            user);
        var results = await Task.WhenAll(Enumerable.Range(0, 12).Select(i => OutputAsync($"TMOUT=1; sleep 1.5; echo {i}", As(user))));
        Assert.Equal(Enumerable.Range(0, 12).Select(i => $"{i}\n"), results);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task A_timeout_kills_processes_that_ignore_signals_stop_or_leave_the_session(string? user)
    {
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync(
            """
            trap '' TERM HUP INT
            setsid -f sleep 601
            (setsid sleep 602 &)
            nohup sleep 603 > /dev/null &
            sleep 604 & kill -STOP $!
            python3 -c 'import os; os.fork() and os._exit(0); os.setsid(); os.fork() and os._exit(0); os.execlp("sleep", "sleep", "605")'
            echo started
            sleep 606
            """,
            As(user, seconds: 20)));
        Assert.Equal(("started\n", CommandStates.Killed), (timeout.Stdout, timeout.Command));
        Assert.Equal("\n", await SleepersAsync());
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task A_process_in_the_background_outlives_its_command_and_may_write_to_its_outputs(string? user)
    {
        await OutputAsync(
            "(sleep 2; for i in $(seq 2000); do echo $i; echo $i >&2; done; echo alive > ~/left; sleep 1006) & disown", As(user));
        await UntilAsync($"cat {(user is null ? "/root" : $"/home/{user}")}/left 2> /dev/null", "alive\n");
        await UntilAsync(Sleepers, "1006\n");
    }

    [Theory]
    [MemberData(nameof(Users))]
    public async Task A_command_begins_as_a_process_of_its_own(string? user)
    {
        var options = As(user);
        // Its own session and group, and no terminal.
        Assert.Equal("1 ?\n", await OutputAsync("set -- $(ps -o pid=,pgid=,sid=,tty= -p $$); echo $(($1 == $2 && $2 == $3)) $4", options));
        // No signal is blocked or ignored.
        Assert.Equal("SigBlk: 0 SigIgn: 0\n", await OutputAsync(
            "while read -r k v; do case $k in SigBlk:|SigIgn:) a+=\" $k $((16#$v))\";; esac; done < <(cat /proc/self/status); echo $a",
            options));
        Assert.Equal("0 1 2 3\n", await OutputAsync(
            "exec python3 -c 'import os; print(*sorted(os.listdir(\"/proc/self/fd\")))'", options));
        Assert.Equal("0022 0 0\n", await OutputAsync("echo $(umask) $(nice) $(cat /proc/self/oom_score_adj)", options));
        Assert.Equal("", await OutputAsync("cat; [ ! -t 0 ] && [ ! -t 1 ] && [ ! -t 2 ]", options));
    }

    // Prints the seconds of the long sleeps that run.
    private const string Sleepers = "echo $(pgrep -ax sleep | cut -d' ' -f3 | grep -E '^[0-9]{3,}$' | sort)";

    private Task<string> SleepersAsync() => OutputAsync(Sleepers);
}
