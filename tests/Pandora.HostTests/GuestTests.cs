using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>What a guest of the default template has, and how its own programs run.</summary>
public sealed class GuestTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private static readonly TimeSpan Long = TimeSpan.FromSeconds(300);
    private Sandbox _sandbox = null!;

    public async ValueTask InitializeAsync() => _sandbox = await fixture.Server.Pandora.CreateAsync();

    public async ValueTask DisposeAsync() => await _sandbox.DisposeAsync();

    [Fact]
    public async Task Programs_that_people_expect_are_there()
    {
        const string Missing = """
            for p in ping mount unzip xz file lsof wget git curl python python3 pip sudo tput find grep awk gawk sed ps bash; do
                command -v $p > /dev/null || echo $p
            done
            """;
        Assert.Equal("", (await _sandbox.ExecAsync(Missing)).Stdout);
        Assert.Equal("CET\n", (await _sandbox.ExecAsync("TZ=Europe/Berlin date -d 2026-01-01 +%Z")).Stdout);
        Assert.Equal("", (await _sandbox.ExecAsync("mount -t tmpfs mine /mnt && umount /mnt")).Stderr);
    }

    [Fact]
    public async Task The_ordinary_user_has_a_home_of_its_own_a_quiet_login_shell_and_sudo_without_a_password()
    {
        const string Account = "id -u; id -g; id -gn; getent passwd user | cut -d: -f 6,7; stat -c %U:%G ~ ~/.bashrc; ls -A ~";
        var user = new ExecOptions { User = "user", Timeout = Long };
        Assert.Equal(
            "1000\n1000\nuser\n/home/user:/bin/bash\nuser:user\nuser:user\n.bash_logout\n.bashrc\n.profile\n",
            (await _sandbox.ExecAsync(Account, user)).Stdout);
        var login = await _sandbox.ExecAsync("bash -l -c true", user);
        Assert.Equal((0, "", ""), (login.ExitCode, login.Stdout, login.Stderr));
        var sudo = await _sandbox.ExecAsync("sudo -n id -u; sudo -n stat -c '%a %U' /etc/sudoers.d/pandora", user);
        Assert.Equal((0, "0\n440 root\n", ""), (sudo.ExitCode, sudo.Stdout, sudo.Stderr));
        Assert.Equal("True\n", (await _sandbox.ExecAsync("python -c 'import sys; print(sys.version_info.major == 3)'", user)).Stdout);
    }

    [Fact]
    public async Task The_name_localhost_has_both_addresses_and_every_user_may_ping_them()
    {
        const string Ping = "for address in 127.0.0.1 ::1; do ping -c 1 -W 5 $address > /dev/null || echo $address; done";
        Assert.Equal("127.0.0.1 localhost\n::1 localhost\n", (await _sandbox.ExecAsync("sed 's/ pandora-.*//' /etc/hosts")).Stdout);
        foreach (var user in new[] { "root", "user", "nobody" })
        {
            var answer = await _sandbox.ExecAsync(Ping, new ExecOptions { Timeout = Long, User = user, WorkingDirectory = "/" });
            Assert.Equal((user, "", ""), (user, answer.Stdout, answer.Stderr));
        }
    }

    [Fact]
    public async Task Pip_installs_outside_of_a_virtual_environment()
    {
        // A wheel made on the spot, because the tests have no package index.
        const string Wheel = """
            import sys, zipfile
            name = sys.argv[1]
            info = f"{name}-1.dist-info"
            with zipfile.ZipFile(f"{name}-1-py3-none-any.whl", "w") as wheel:
                wheel.writestr(f"{name}.py", "print('installed')")
                wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
                wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
                wheel.writestr(f"{info}/RECORD", "")
            """;
        foreach (var user in new[] { "root", "user" })
        {
            var answer = await _sandbox.ExecAsync(
                $"cd && python3 - of_{user} && pip install -q --no-index ./of_{user}-1-py3-none-any.whl && python3 -m of_{user}",
                new ExecOptions { Timeout = Long, User = user, Stdin = Wheel });
            Assert.Equal((user, 0, "installed\n"), (user, answer.ExitCode, answer.Stdout));
        }
    }

    [Fact]
    public async Task The_guests_own_programs_are_in_memory_and_only_root_can_change_them()
    {
        Assert.Equal(
            "agent\nbusybox\ninit\n",
            (await _sandbox.ExecAsync("ls /usr/lib/pandora; touch /usr/lib/pandora/x 2> /dev/null && echo written",
                new ExecOptions { User = "user" })).Stdout);
        var mount = (await _sandbox.ExecAsync("grep ' /usr/lib/pandora ' /proc/mounts")).Stdout;
        Assert.Contains(" tmpfs rw,nosuid,nodev,", mount);
        Assert.Contains("mode=755", mount);
    }

    [Fact]
    public async Task The_memory_killer_spares_the_agent_and_nothing_else_and_a_killed_agent_is_started_again()
    {
        const string State = "pid=$(pgrep -x agent); cat /proc/$pid/oom_score_adj; echo $pid";
        var before = (await _sandbox.ExecAsync("cat /proc/self/oom_score_adj; " + State)).Stdout.Split('\n');
        Assert.Equal(("0", "-1000"), (before[0], before[1]));
        // The end of the command that kills the agent is not known: the next agent knows nothing of it.
        var lost = await Assert.ThrowsAsync<PandoraApiException>(() => _sandbox.ExecAsync($"kill -9 {before[2]}; sleep 60"));
        Assert.Equal("guest_unreachable", lost.Code);
        var after = (await _sandbox.ExecAsync(State, new ExecOptions { Timeout = Long })).Stdout;
        Assert.NotEqual(before[2], after.Split('\n')[1]);
        Assert.StartsWith("-1000\n", after);
    }

    [Fact]
    public async Task Commands_cgroups_have_the_controllers_of_memory_and_processes()
    {
        var groups = await _sandbox.ExecAsync("cat /sys/fs/cgroup/exec/cgroup.controllers /sys/fs/cgroup/exec/cgroup.subtree_control");
        Assert.Equal("memory pids\nmemory pids\n", groups.Stdout);
    }
}
