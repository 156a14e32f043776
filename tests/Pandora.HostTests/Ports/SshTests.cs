using Pandora.Client;
using Pandora.HostTests.World;

namespace Pandora.HostTests.Ports;

/// <summary>A sandbox reached by the distribution's own programs over SSH, as people use them.</summary>
public sealed class SshTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private readonly HostShell _shell = new(fixture.World.Host);
    private Sandbox _sandbox = null!;

    private string Id => _sandbox.Id;

    public async ValueTask InitializeAsync()
    {
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(600) });
        await _shell.OutputAsync($"mkdir -m 700 .ssh && pandora-cli ssh-config {Id} > .ssh/config && chmod 600 .ssh/config");
    }

    public async ValueTask DisposeAsync()
    {
        await _sandbox.DisposeAsync();
        _shell.Dispose();
    }

    [Fact]
    public async Task Commands_run_with_their_input_output_and_exit_code()
    {
        Assert.Equal("hello\nroot /root\n", await _shell.OutputAsync($"echo hello | {Ssh} 'cat; echo $(id -un) $PWD'"));
        var failed = await _shell.RunAsync($"{Ssh} 'echo out; echo error >&2; exit 7'");
        Assert.Equal((7, "out\n"), (failed.ExitCode, failed.Output));
        Assert.Contains("error\n", failed.Error);
        Assert.Equal("one  two\n", await _shell.OutputAsync($"pandora-cli ssh {Id} -- echo 'one  two'"));
        Assert.Equal(9, (await _shell.RunAsync($"pandora-cli ssh {Id} -- exit 9")).ExitCode);
    }

    [Fact]
    public async Task A_terminal_is_one()
    {
        var screen = await _shell.OutputAsync($"{Ssh} -tt 'stty size; test -t 0 && echo it is a terminal' < /dev/null");
        Assert.Contains("it is a terminal", screen);
    }

    [Fact]
    public async Task Files_are_copied_by_scp_sftp_and_rsync()
    {
        await _shell.OutputAsync("mkdir -p tree/below && head -c 3000000 /dev/urandom > tree/big && echo small > tree/below/small");
        await _shell.OutputAsync($"scp -F .ssh/config -rq tree pandora-{Id}:/srv/ && scp -F .ssh/config -rq pandora-{Id}:/srv/tree back");
        await _shell.OutputAsync("diff -r tree back");
        Assert.Contains(
            "big", await _shell.OutputAsync($"printf 'ls /srv/tree\\nget /srv/tree/big again\\n' | sftp -F .ssh/config -b - pandora-{Id}"));
        await _shell.OutputAsync("cmp tree/big again");
        Assert.SkipUnless(HostShell.Has("rsync"), "rsync could not be installed");
        await _shell.OutputAsync($"rsync -a -e 'ssh -F .ssh/config' tree/ pandora-{Id}:/srv/synced/");
        await _shell.OutputAsync("rm tree/big && echo more > tree/below/more");
        await _shell.OutputAsync(
            $"rsync -a --delete -e 'ssh -F .ssh/config' tree/ pandora-{Id}:/srv/synced/ "
            + $"&& rsync -a -e 'ssh -F .ssh/config' pandora-{Id}:/srv/synced/ synced/ && diff -r tree synced");
    }

    [Fact]
    public async Task A_repository_is_cloned_and_pushed_to()
    {
        await _sandbox.ExecAsync(
            "git init -q --bare -b main /srv/project.git && git clone -q /srv/project.git /tmp/work && cd /tmp/work "
            + "&& git -c user.name=a -c user.email=a@b commit -q --allow-empty -m 'first' && git push -q origin HEAD:main",
            new ExecOptions { Timeout = TimeSpan.FromSeconds(300) });
        await _shell.OutputAsync(
            $"export GIT_SSH_COMMAND='ssh -F {_shell.Home}/.ssh/config'; git clone -q ssh://pandora-{Id}/srv/project.git clone && cd clone "
            + "&& echo text > file && git add file && git -c user.name=b -c user.email=b@b commit -q -m second && git push -q");
        Assert.Equal("second\nfirst\n", (await _sandbox.ExecAsync("git -C /srv/project.git log --format=%s main")).Stdout);
    }

    [Fact]
    public async Task A_directory_is_mounted_by_sshfs()
    {
        Assert.SkipUnless(HostShell.Has("sshfs") && File.Exists("/dev/fuse"), "sshfs could not be installed, or there is no FUSE");
        await _sandbox.ExecAsync("mkdir -p /srv/shared && echo inside > /srv/shared/file");
        var mounted = await _shell.RunAsync(
            $"mkdir mnt && sshfs -F {_shell.Home}/.ssh/config pandora-{Id}:/srv/shared mnt && cat mnt/file && echo outside > mnt/new; "
            + "result=$?; fusermount3 -u mnt; exit $result");
        Assert.SkipWhen(mounted.Error.Contains("fuse: mount failed", StringComparison.Ordinal), "this machine may not mount FUSE");
        Assert.True(mounted.ExitCode == 0, $"{mounted}");
        Assert.Equal("inside\n", mounted.Output);
        Assert.Equal("outside\n", (await _sandbox.ExecAsync("cat /srv/shared/new")).Stdout);
    }

    [Fact]
    public async Task Ports_are_forwarded_as_editors_do_it()
    {
        await _sandbox.Processes.StartAsync("cd /srv && echo served > page && exec python3 -m http.server 7000 --bind 127.0.0.1");
        await _sandbox.ExecAsync("until curl -s 127.0.0.1:7000 > /dev/null; do sleep 0.1; done");
        Assert.Equal("served\n", await _shell.OutputAsync(
            $"ssh -F .ssh/config -f -N -o ExitOnForwardFailure=yes -S control -M -L 17000:127.0.0.1:7000 pandora-{Id} "
            + $"&& curl -s --noproxy '*' http://127.0.0.1:17000/page; {Ssh} -S control -O exit > /dev/null 2>&1"));
    }

    [Fact]
    public async Task Only_the_sandboxs_keys_log_in_and_only_the_pinned_server_is_trusted()
    {
        await _shell.OutputAsync(
            "ssh-keygen -q -t ed25519 -N '' -f other && sed 's|IdentityFile .*|IdentityFile other|' .ssh/config > .ssh/other");
        var refused = await _shell.RunAsync($"ssh -F .ssh/other pandora-{Id} true");
        Assert.Equal(255, refused.ExitCode);
        Assert.Contains("Permission denied (publickey", refused.Error);
        await _shell.OutputAsync("for f in $(grep -o '/[^\" ]*known_hosts[^\" ]*' .ssh/config | head -1); do cp $f kept; "
            + "sed 's|AAAA.*|'\"$(cut -d' ' -f2 other.pub)\"'|' kept > $f; done");
        var untrusted = await _shell.RunAsync($"{Ssh} true");
        Assert.Equal(255, untrusted.ExitCode);
        Assert.Contains("Host key verification failed", untrusted.Error);
        // The command line writes the right key again.
        Assert.Equal("in\n", await _shell.OutputAsync($"pandora-cli ssh {Id} -- echo in"));
    }

    [Fact]
    public async Task Every_user_of_the_guest_may_log_in_and_a_key_that_was_taken_away_may_not()
    {
        await _sandbox.ExecAsync("useradd -m -s /bin/bash ann");
        Assert.Equal("ann /home/ann\n", await _shell.OutputAsync($"pandora-cli ssh --user ann {Id} -- 'echo $(id -un) $PWD'"));
        await _sandbox.Ssh.SetKeysAsync([]);
        Assert.Contains("Permission denied", (await _shell.RunAsync($"{Ssh} true")).Error);
    }

    [Fact]
    public async Task Nothing_listens_no_agent_is_forwarded_and_no_server_stays()
    {
        Assert.Equal("\n", await _shell.OutputAsync($"{Ssh} 'ss -Hltn; echo $SSH_AUTH_SOCK'"));
        Assert.Equal("\n", await _shell.OutputAsync(
            $"eval $(ssh-agent) > /dev/null; {Ssh} -A 'echo $SSH_AUTH_SOCK'; ssh-agent -k > /dev/null"));
        Assert.Equal("0\n", (await _sandbox.ExecAsync(
            "for i in $(seq 200); do n=$(pgrep -c sshd); [ $n = 0 ] && break; sleep 0.1; done; echo $n")).Stdout);
    }

    [Fact]
    public async Task Sessions_of_many_clients_at_once_do_not_disturb_each_other()
    {
        var outputs = await Task.WhenAll(Enumerable.Range(0, 6).Select(i => _shell.OutputAsync($"{Ssh} 'sleep 1; seq {i}000 | md5sum'")));
        for (var i = 0; i < outputs.Length; i++)
        {
            Assert.Equal(await _shell.OutputAsync($"seq {i}000 | md5sum"), outputs[i]);
        }
    }

    [Fact]
    public async Task A_sandbox_that_ends_ends_its_sessions()
    {
        var other = await fixture.Server.Pandora.CreateAsync();
        using var session = _shell.Start($"pandora-cli ssh {other.Id} -- 'echo started; sleep 1000'");
        Assert.Equal("started", await session.StandardOutput.ReadLineAsync(TestContext.Current.CancellationToken));
        await other.DisposeAsync();
        await session.WaitForExitAsync(TestContext.Current.CancellationToken)
            .WaitAsync(TimeSpan.FromSeconds(30), TimeProvider.System, TestContext.Current.CancellationToken);
        Assert.Equal(255, session.ExitCode);
    }

    private string Ssh => $"ssh -F .ssh/config pandora-{Id}";
}
