using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.HostTests;

/// <summary>Commands in a real guest, through the real API.</summary>
public sealed class ExecTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    public async ValueTask InitializeAsync() =>
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });

    public ValueTask DisposeAsync() => _sandbox.DisposeAsync();

    [Fact]
    public async Task Files_persist_and_each_command_has_the_environment_of_a_login()
    {
        await _sandbox.ExecAsync("cd /tmp && echo kept > file && export GONE=1");
        var result = await _sandbox.ExecAsync(
            "cat /tmp/file; echo \"$PWD $HOME $USER $LANG ${GONE-none} ${SSH_CONNECTION-none}\"; id -un; uname -s");
        Assert.Equal("kept\n/root /root root C.UTF-8 none none\nroot\nLinux\n", result.Stdout);
        Assert.Equal("", result.Stderr);
        Assert.True(result.Duration.TotalMilliseconds > 0);
    }

    [Theory]
    [InlineData("exit 7", 7)]
    [InlineData("nosuchcommand", 127)]
    [InlineData("sh -c 'kill -TERM $$'", 143)]
    [InlineData("kill -KILL $$", 137)]
    [InlineData("kill -SEGV $$", 139)]
    [InlineData("python3 -c 'import os, signal; os.kill(os.getpid(), signal.SIGBUS)'", 135)]
    [InlineData("exec sh -c 'exit 9'", 9)]
    [InlineData("trap 'exit 4' EXIT; sleep 1000 & exit 5", 4)]
    public async Task Exit_codes_and_signals_are_returned(string code, int exitCode) =>
        Assert.Equal(exitCode, (await _sandbox.ExecAsync(code)).ExitCode);

    [Fact]
    public async Task Stdout_and_stderr_are_separate_and_invalid_UTF8_is_replaced()
    {
        var result = await _sandbox.ExecAsync("echo out; echo err >&2; printf 'h\\303\\251 \\360\\237\\232\\200 \\377|'");
        Assert.Equal("out\nhé 🚀 \uFFFD|", result.Stdout);
        Assert.Equal("err\n", result.Stderr);
    }

    [Fact]
    public async Task Directory_environment_user_and_input_are_as_requested()
    {
        var env = new Dictionary<string, string> { ["A"] = "it's\n\"two\" lines $HOME", ["B"] = "" };
        var result = await _sandbox.ExecAsync(
            "pwd; printf '%s|%s\\n' \"$A\" \"${B-unset}\"; cat",
            new ExecOptions
            {
                WorkingDirectory = "/usr/share",
                Environment = env,
                Stdin = "line\nmore",
            });
        Assert.Equal("/usr/share\nit's\n\"two\" lines $HOME|\nline\nmore", result.Stdout);
        var user = await _sandbox.ExecAsync("id -un; pwd; echo $HOME; sudo id -un; cat", new ExecOptions { User = "user", Stdin = "in" });
        Assert.Equal("user\n/home/user\n/home/user\nroot\nin", user.Stdout);
    }

    [Fact]
    public async Task A_directory_or_user_that_does_not_exist_is_named()
    {
        Assert.Contains(
            "cwd",
            (
                await Assert.ThrowsAsync<InvalidRequestException>(() =>
                    _sandbox.ExecAsync("true", new ExecOptions { WorkingDirectory = "/no/such" })))
                .Errors!
                .Keys);
        Assert.Contains(
            "user",
            (await Assert.ThrowsAsync<InvalidRequestException>(() => _sandbox.ExecAsync("true", new ExecOptions { User = "nobodyhere" })))
                .Errors!
                .Keys);
    }

    [Fact]
    public async Task A_megabyte_of_code_and_of_input_arrive_whole()
    {
        var code =
            "n=0\n" + string.Concat(Enumerable.Repeat("n=$((n + 1)) # é, a comment to make it long enough\n", 900)) + "echo $n\nwc -c\n#";
        code += new string('x', (1024 * 1024) - Encoding.UTF8.GetByteCount(code));
        var result = await _sandbox.ExecAsync(
            code, new ExecOptions { Timeout = TimeSpan.FromSeconds(120), Stdin = new string('y', 1024 * 1024) });
        Assert.Equal("900\n1048576\n", result.Stdout);
    }

    [Fact]
    public async Task Long_output_is_cut_and_flagged()
    {
        var result = await _sandbox.ExecAsync(
            "head -c 12000000 /dev/zero | tr '\\0' 'a'; echo end >&2", new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        Assert.True(result.IsTruncated);
        Assert.Equal(10 * 1024 * 1024, result.Stdout.Length);
        Assert.Equal("end\n", result.Stderr);
    }

    [Fact]
    public async Task Exec_returns_when_bash_exits_and_its_background_processes_keep_running()
    {
        var result = await _sandbox.ExecAsync(
            "(sleep 30; for i in 1 2 3 4 5; do echo $i; echo $i >&2; done; echo alive > /tmp/left) & setsid sleep 1000 & echo now; exit 5");
        Assert.Equal((5, "now\n"), (result.ExitCode, result.Stdout));
        Assert.True(result.Duration.TotalSeconds < 20, $"{result.Duration.TotalMilliseconds} ms");
        Assert.Equal("alive\n", (await _sandbox.ExecAsync(
            "until [ -e /tmp/left ]; do sleep 0.5; done; cat /tmp/left", new ExecOptions { Timeout = TimeSpan.FromSeconds(120) })).Stdout);
        Assert.Equal(0, (await _sandbox.ExecAsync("pkill -x sleep")).ExitCode);
    }

    [Fact]
    public async Task A_server_started_in_the_background_can_be_used_by_the_next_command()
    {
        var started = await _sandbox.ExecAsync("python3 -m http.server 8080 --bind 127.0.0.1 > /tmp/log 2>&1 &");
        Assert.Equal(0, started.ExitCode);
        Assert.Equal(
            "200",
            (
                await _sandbox.ExecAsync(
                    "curl -s -o /dev/null -w '%{http_code}' --retry 20 --retry-connrefused --retry-delay 1 http://127.0.0.1:8080/; "
                        + "pkill python3")
            ).Stdout);
    }

    [Fact]
    public async Task A_timeout_kills_everything_and_keeps_output_and_sandbox()
    {
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() =>
            _sandbox.ExecAsync(
                "echo so far; echo bad >&2; sleep 501 & setsid sleep 502 & setsid -f sleep 503; sleep 504",
                new ExecOptions { Timeout = TimeSpan.FromSeconds(6) }));
        Assert.Equal(("so far\n", "bad\n", CommandStates.Killed), (timeout.Stdout, timeout.Stderr, timeout.Command));
        Assert.Equal("0\n", (await _sandbox.ExecAsync("pgrep -cx sleep")).Stdout);
    }

    [Fact]
    public async Task A_client_that_disconnects_ends_its_command_and_not_the_sandbox()
    {
        using var client = new CancellationTokenSource();
        var running = _sandbox.ExecAsync("setsid sleep 505 & sleep 506", cancellationToken: client.Token);
        await UntilAsync(async () => (await _sandbox.ExecAsync("pgrep -cx sleep")).Stdout == "2\n");
        await client.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        await UntilAsync(async () => (await _sandbox.ExecAsync("pgrep -cx sleep")).Stdout == "0\n");
    }

    [Fact]
    public async Task Forty_commands_run_at_once()
    {
        var start = TimeProvider.System.GetTimestamp();
        var results = await Task.WhenAll(Enumerable.Range(0, 40).Select(i =>
            _sandbox.ExecAsync($"sleep 5; echo {i}", new ExecOptions { Timeout = TimeSpan.FromSeconds(120) })));
        Assert.Equal(Enumerable.Range(0, 40).Select(i => $"{i}\n"), results.Select(r => r.Stdout));
        Assert.True(
            TimeProvider.System.GetElapsedTime(start) < TimeSpan.FromSeconds(120), "forty sleeps of five seconds ran one after another");
    }

    [Fact]
    public async Task A_malformed_body_is_refused()
    {
        using var content = new StringContent("{", Encoding.UTF8, "application/json");
        using var response = await fixture.Server.Http.PostAsync(new Uri($"/sandboxes/{_sandbox.Id}/exec", UriKind.Relative), content);
        Assert.Equal(400, (int)response.StatusCode);
        using var huge = new StringContent($"{{\"code\": \"{new string('x', Limits.MaxBodyBytes)}\"}}", Encoding.UTF8, "application/json");
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/sandboxes/{_sandbox.Id}/exec") { Content = huge };
        request.Headers.ExpectContinue = true;
        using var tooLarge = await fixture.Server.Http.SendAsync(request);
        Assert.Equal(413, (int)tooLarge.StatusCode);
        Assert.Equal("true\n", (await _sandbox.ExecAsync("echo true")).Stdout);
    }

    private static async Task UntilAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!await condition())
        {
            Assert.False(limit.IsCancellationRequested, "the condition did not hold in time");
        }
    }
}
