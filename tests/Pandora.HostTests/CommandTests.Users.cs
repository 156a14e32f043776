using Pandora.Client;

namespace Pandora.HostTests;

// Users, their environment, and what other users of the guest can do to a command.
public abstract partial class CommandContract
{
    private const string Secret = "s3cret-7f1c";

    [Fact]
    public async Task No_startup_file_is_read()
    {
        await OutputAsync(
            """
            for f in .bashrc .bash_profile .bash_login .profile .bash_logout .zshrc .ssh/rc; do
                for home in /root /home/user; do
                    mkdir -p $home/.ssh
                    printf 'echo noise\necho noise >&2\nsleep 1007 &\ncd /\nexport NOISE=1\nexit 0\n' > $home/$f
                done
            done
            cp /root/.bashrc /etc/profile
            cp /root/.bashrc /etc/bash.bashrc
            cp /root/.bashrc /etc/bash.bash_logout
            mkdir -p /etc/profile.d
            cp /root/.bashrc /etc/profile.d/noise.sh
            cp /root/.bashrc /nonexistent 2> /dev/null || true
            printf 'BASH_ENV=/root/.bashrc\nNOISE=1\n' >> /etc/environment
            chown -R user /home/user
            """);
        var padding = $"\n#{new string('x', 200_000)}";
        foreach (var user in new[] { null, "user", "nobody" })
        {
            foreach (var (code, stdin) in new[] { ("", ""), (padding, ""), ("; cat", "input"), ($"; cat{padding}", "input") })
            {
                var result = await RunAsync($"echo ran ${{NOISE-none}}{code}", As(user, stdin: stdin));
                Assert.Equal((user, $"ran none\n{stdin}", "", 0), (user, result.Stdout, result.Stderr, result.ExitCode));
            }

            Assert.Equal(7, (await RunAsync("exit 7", As(user))).ExitCode);
        }

        await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync("sleep 60", As(null, seconds: 1)));
        Assert.Equal("\n", await SleepersAsync());
    }

    [Theory]
    [InlineData("PATH", "/home/user/bin")]
    [InlineData("PATH", "")]
    [InlineData("HOME", "/tmp")]
    [InlineData("USER", "somebody")]
    [InlineData("LOGNAME", "some body")]
    [InlineData("LANG", "C")]
    [InlineData("SHELL", "/bin/false")]
    [InlineData("LD_LIBRARY_PATH", "/home/user/lib")]
    [InlineData("BASH_ENV", "/no/such/file")]
    [InlineData("POSIXLY_CORRECT", "1")]
    [InlineData("TERM", "'; exit 9; '")]
    [InlineData("a_long_name_0123456789", "\"quotes\" 'quotes' $(exit 9) `exit 9` \\ \n!! é \t")]
    public async Task The_environment_is_the_requests_for_every_user(string name, string value)
    {
        foreach (var user in new[] { null, "user", "nobody" })
        {
            var options = As(user);
            options.Environment = new Dictionary<string, string> { [name] = value };
            var result = await RunAsync($"printf '%s|' \"${name}\"; cd /; exit 3", options);
            Assert.Equal((user, $"{value}|", 3), (user, result.Stdout, result.ExitCode));
            // A program that the shell starts has it, too.
            Assert.Equal($"{value}|", await OutputAsync($"/usr/bin/printenv {name} | /usr/bin/head -c -1; printf '|'", options));
        }
    }

    [Fact]
    public async Task Only_programs_of_the_command_itself_have_its_environment()
    {
        await OutputAsync("mkdir -m 1777 /srv/ld");
        var options = As("user");
        // ld.so(8): each program that is started with these writes a file.
        options.Environment = new Dictionary<string, string> { ["LD_DEBUG"] = "files", ["LD_DEBUG_OUTPUT"] = "/srv/ld/trace" };
        Assert.Equal("ran\n", await OutputAsync("echo ran", options));
        Assert.Equal("user\n", await OutputAsync("stat -c %U /srv/ld/* | sort -u"));
        Assert.Equal("1\n", await OutputAsync("ls /srv/ld | wc -l"));

        // ld.so complains of each program that it cannot load this into.
        options.Environment = new Dictionary<string, string> { ["LD_PRELOAD"] = "/no/such.so" };
        var preloaded = await RunAsync("echo ran", options);
        Assert.Equal(("ran\n", 1), (preloaded.Stdout, preloaded.Stderr.Split("/no/such.so").Length - 1));
    }

    [Fact]
    public async Task No_variable_is_evaluated_by_root_for_another_user()
    {
        await OutputAsync("mkdir -m 1777 /srv/who");
        string[] names =
        [
            "OPTIND", "RANDOM", "SECONDS", "LINENO", "HISTCMD", "HISTSIZE", "TMOUT", "FUNCNEST", "COLUMNS", "BASH_XTRACEFD", "BASH_COMPAT",
            "PS4", "PROMPT_COMMAND", "BASH_ENV", "ENV", "IFS", "OPTARG", "REPLY", "MAILPATH", "EXECIGNORE", "EPOCHSECONDS", "BASH_ARGV0",
            "SHLVL", "_", "PWD", "OLDPWD", "CDPATH", "TZ", "LC_ALL", "LD_AUDIT", "GCONV_PATH", "PYTHONSTARTUP", "SUDO_USER",
        ];
        foreach (var form in new[] { "a[$(id -u >> /srv/who/{0})]", "$(id -u >> /srv/who/{0})", "`id -u >> /srv/who/{0}`" })
        {
            var options = As("user");
            options.Environment = names.ToDictionary(n => n, n => form.Replace("{0}", n, StringComparison.Ordinal));
            await RunAsync("set -x; echo $OPTIND; : $((SECONDS))", options);
        }

        // As in any bash, the user's own shell may evaluate some of them.
        Assert.Equal("", await OutputAsync("grep -rLx 1000 /srv/who; grep -rhvx 1000 /srv/who || true"));
        await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("true", Env("BASH_FUNC_echo%%", "() { id; }")));
        await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("true", Env("A=B", "")));

        static ExecOptions Env(string name, string value) => new() { Environment = new Dictionary<string, string> { [name] = value } };
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task A_secret_is_seen_by_no_other_user(string? user)
    {
        var options = As(user, stdin: $"{Secret}\n");
        options.Environment = new Dictionary<string, string> { ["TOKEN"] = Secret };
        var running = RunAsync($"touch /tmp/on; until [ -e /tmp/go ]; do sleep 0.3; done; cat # {new string('x', 200_000)}", options);
        await UntilAsync("ls /tmp/on", "/tmp/on\n");
        const string Look = "cat /proc/[0-9]*/{0} 2> /dev/null | tr '\\0' '\\n' | grep -ac 's3[c]ret-7f1c'";
        // Root may see the environment, and no command line has it.
        Assert.Equal("0\n", (await RunAsync(Look.Replace("{0}", "cmdline", StringComparison.Ordinal))).Stdout);
        foreach (var file in new[] { "cmdline", "environ" })
        {
            Assert.Equal("0\n", (await RunAsync(Look.Replace("{0}", file, StringComparison.Ordinal), As("nobody"))).Stdout);
        }

        Assert.Equal("", (await RunAsync("grep -rlaD skip 's3[c]ret-7f1c' /tmp /var/tmp /run /dev/shm /home /etc 2> /dev/null",
            As("nobody"))).Stdout);
        await OutputAsync("touch /tmp/go");
        Assert.Equal($"{Secret}\n", (await running).Stdout);
    }

    [Fact]
    public async Task Nothing_is_put_where_another_user_can_write()
    {
        // Names of an earlier version, and a watch for others.
        await OutputAsync(
            """
            cat > /tmp/lay.py <<'END'
            import os
            for i in range(200):
                os.mkfifo(f"/var/tmp/.pandora-{i}-code", 0o666)
                os.symlink("/etc/passwd", f"/var/tmp/.pandora-{i}-in")
            END
            python3 /tmp/lay.py
            """,
            As("nobody"));
        await WriteAsync("/tmp/watch.py", """
            import ctypes, os, struct
            libc = ctypes.CDLL(None)
            fd = libc.inotify_init()
            for place in "/tmp", "/var/tmp", "/dev/shm", "/run/lock":
                libc.inotify_add_watch(fd, place.encode(), 0x100 | 0x80)  # IN_CREATE, IN_MOVED_TO
            open("/tmp/ready", "w").close()
            seen = set()
            while "end" not in seen:
                data = os.read(fd, 65536)
                while data:
                    length = struct.unpack_from("iIII", data)[3]
                    seen.add(data[16:16 + length].rstrip(b"\0").decode())
                    data = data[16 + length:]
            print(*sorted(seen - {"ready", "end"}))
            """);
        var watch = OutputAsync("python3 /tmp/watch.py", As("nobody"));
        await UntilAsync("ls /tmp/ready", "/tmp/ready\n");
        var longCode = $"#{new string('x', 900_000)}\ncat | wc -c";
        foreach (var user in new[] { null, "user" })
        {
            Assert.Equal("1000000\n", await OutputAsync(longCode, As(user, stdin: new string('i', 1_000_000))));
            Assert.Equal("5\n", await OutputAsync("cat | wc -c", As(user, stdin: "short")));
            Assert.Equal("0\n", await OutputAsync(longCode, As(user)));
            await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync($"sleep 60 # {new string('x', 9000)}", As(user, seconds: 1)));
        }

        await OutputAsync("touch /tmp/end");
        Assert.Equal("\n", await watch);
        Assert.StartsWith("root:", await OutputAsync("head -n1 /etc/passwd"));
    }

    [Theory]
    [MemberData(nameof(Users))]
    public async Task Outputs_and_input_can_be_opened_by_their_names(string? user)
    {
        foreach (var (code, stdout, stderr) in new[]
        {
            ("echo a > /dev/stdout", "a\n", ""),
            ("echo a >> /dev/stdout; echo b > /dev/fd/1; echo c > /proc/self/fd/1", "a\nb\nc\n", ""),
            ("echo a | tee /dev/stderr", "a\n", "a\n"),
            ("echo a > /dev/stderr; echo b > /proc/self/fd/2", "", "a\nb\n"),
            ("cat /dev/stdin", "in", ""),
            ("cat < /dev/fd/0", "in", ""),
            ("cat /proc/self/fd/0 /dev/null", "in", ""),
            ("python3 -c 'print(open(\"/dev/stdin\").read(), file=open(\"/dev/stderr\", \"w\"))'", "", "in\n"),
            ("cat <(echo sub)", "sub\n", ""),
        })
        {
            var result = await RunAsync(code, As(user, stdin: "in"));
            Assert.Equal((code, stdout, stderr, 0), (code, result.Stdout, result.Stderr, result.ExitCode));
        }

        Assert.Equal("", await OutputAsync("cat /dev/stdin; cat < /dev/fd/0", As(user)));
        var merged = As(user);
        merged.MergeOutputs = true;
        Assert.Equal("e\no\n", await OutputAsync("echo e > /dev/stderr; echo o > /dev/stdout", merged));
    }

    [Fact]
    public async Task Without_a_home_a_command_runs_in_the_root_directory()
    {
        Assert.Equal("/ nobody\n", await OutputAsync("echo $PWD $(id -un)", As("nobody")));
        await OutputAsync(
            """
            useradd -M -d /home/ghost ghost
            useradd -M -d /etc/passwd filer
            useradd -m -d /home/locked locked && chown root /home/locked && chmod 700 /home/locked
            """);
        foreach (var user in new[] { "ghost", "filer", "locked" })
        {
            Assert.Equal($"/ {user}\n", await OutputAsync("echo $PWD $(id -un)", As(user)));
        }

        var options = As("nobody");
        options.WorkingDirectory = "/usr/share";
        Assert.Equal("/usr/share\n", await OutputAsync("pwd", options));
        options.WorkingDirectory = "/root";
        Assert.Equal(["cwd"], (await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("pwd", options))).Errors.Keys);
        options.WorkingDirectory = "/etc/passwd";
        Assert.Equal(["cwd"], (await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("pwd", options))).Errors.Keys);
    }

    [Fact]
    public async Task A_user_is_a_name_or_a_number_and_has_its_groups()
    {
        await OutputAsync("groupadd -g 4001 first; groupadd -g 4002 second; usermod -aG first,second user; useradd -u 3000 -m another");
        const string Who = "id -u; id -Gn | tr ' ' '\\n' | sort | xargs; echo $HOME $USER $PWD";
        var named = await OutputAsync(Who, As("user"));
        Assert.StartsWith("1000\n", named);
        Assert.Contains(" first ", named.Replace('\n', ' '));
        Assert.Contains(" second ", named.Replace('\n', ' '));
        Assert.Equal(named, await OutputAsync(Who, As("1000")));
        Assert.Equal("0\nroot\n/root root /root\n", await OutputAsync(Who, As("0")));
        Assert.Equal("3000\nanother\n/home/another another /home/another\n", await OutputAsync(Who, As("3000")));
        // One that has no name.
        Assert.Equal("12345 /\n", await OutputAsync("echo $(id -u) $PWD; touch /tmp/mine", As("12345")));
        Assert.Equal("12345\n", await OutputAsync("stat -c %u /tmp/mine"));
        Assert.NotEqual(0, (await RunAsync("cat /etc/shadow", As("12345"))).ExitCode);
        foreach (var unknown in new[] { "nosuchuser", "first" })
        {
            Assert.Equal(["user"], (await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("true", As(unknown)))).Errors.Keys);
        }
    }
}
