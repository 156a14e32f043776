using System.Diagnostics;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>The examples of the README, run as they are printed there.</summary>
public sealed class ExampleTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    private const string Interrupted = "interrupted; the request was ended, and the server stops a command whose client has gone";

    [Fact]
    public async Task The_quickstart_prints_what_the_readme_shows()
    {
        var code = await File.ReadAllTextAsync(Path.Combine(Repository.Root, "examples/Quickstart/Program.cs"));
        Assert.Contains(
            code[code.IndexOf("using var", StringComparison.Ordinal)..].Trim(),
            await File.ReadAllTextAsync(Path.Combine(Repository.Root, "README.md")));
        var output = await RunAsync(Path.Combine(Repository.Root, "artifacts/bin/Quickstart/release/Quickstart"), "http://127.0.0.1:8000");
        Assert.Matches(@"^hello, exit code 3, created in [\d.]+ ms\n$", output);
    }

    [Fact]
    public async Task The_command_line_runs_passes_input_and_exit_code_and_shows_a_receipt()
    {
        var cli = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli");
        Assert.Equal("INPUT\n", await RunAsync("sh", "-c", $"printf input | {cli} run -i -- tr a-z A-Z"));
        Assert.Equal("0\n", await RunAsync("sh", "-c", $"printf input | {cli} run -q -- wc -c"));
        Assert.Matches(
            @"claimed [\d.]+ ms.* · ran [\d.]+ ms · torn down [\d.]+ ms · 0 remaining · isolation: (QEMU|Firecracker)/",
            await RunAsync("sh", "-c", $"{cli} run true 2>&1"));
        Assert.Equal("7\n", await RunAsync("sh", "-c", $"{cli} run -q 'exit 7'; echo $?"));
        var id = (await RunAsync(cli, "create", "--metadata", "by=test")).Trim();
        Assert.Equal("1 -l\n", await RunAsync(cli, "exec", id, "echo", "1", "-l"));
        Assert.Equal(id + "\n", await RunAsync(cli, "ls", "--metadata", "by=test"));
        Assert.Equal(
            "got 1\ngot 2\n", await RunAsync("sh", "-c", $"printf '1\\n2\\n' | while read l; do {cli} exec {id} \"echo got $l\"; done"));
        Assert.Contains("\"exit_code\":0", await RunAsync(cli, "exec", "--json", id, "true"));
        Assert.Equal(id + "\n", await RunAsync(cli, "rm", id));
        Assert.Matches("isolation   (QEMU|Firecracker)/", await RunAsync(cli, "health"));
        Assert.Equal("pandora: there is no sandbox 'nope'\n125\n", await RunAsync("sh", "-c", $"{cli} exec nope true 2>&1; echo $?"));
        Assert.Matches("^\\{.*\"status\":404,.*\"code\":\"sandbox_not_found\".*\\}\n125\n$",
            await RunAsync("sh", "-c", $"{cli} exec --json nope true 2>&1; echo $?"));
        Assert.Matches("^pandora: .*--nope.*\n125\n$", await RunAsync("sh", "-c", $"{cli} run --nope true 2>&1; echo $?"));
    }

    [Fact]
    public async Task Ctrl_C_goes_to_the_command_of_exec_and_a_second_one_kills_it()
    {
        await using var sandbox = await fixture.Server.Pandora.CreateAsync();
        using (var cli = Start("exec", sandbox.Id, "touch /tmp/started; exec sleep 298"))
        {
            await WaitAsync(async () => (await sandbox.ExecAsync("test -e /tmp/started")).ExitCode == 0);
            await InterruptAsync(cli);
            // The command may end before the client has said what it did.
            Assert.Equal(130, cli.ExitCode);
            Assert.Matches(
                $"^(pandora: SIGINT was sent to the command; Ctrl-C again kills it\n)?(pandora: .*sandbox {sandbox.Id} lives on\n)?$",
                await cli.StandardError.ReadToEndAsync());
        }

        // Python, because a shell takes no notice of the signal while its child ends by itself.
        const string Stubborn = """
            exec python3 -c 'import signal, time
            signal.signal(signal.SIGINT, lambda *_: open("/tmp/ignored", "w"))
            open("/tmp/again", "w")
            while True: time.sleep(0.1)'
            """;
        using (var stubborn = Start("exec", sandbox.Id, Stubborn))
        {
            await WaitAsync(async () => (await sandbox.ExecAsync("test -e /tmp/again")).ExitCode == 0);
            Interrupt(stubborn);
            await WaitAsync(async () => (await sandbox.ExecAsync("test -e /tmp/ignored")).ExitCode == 0);
            await InterruptAsync(stubborn);
            Assert.Equal(137, stubborn.ExitCode);
            Assert.StartsWith(
                "pandora: SIGINT was sent to the command; Ctrl-C again kills it\n", await stubborn.StandardError.ReadToEndAsync());
        }

        await WaitAsync(async () => (await sandbox.ExecAsync("pgrep -x sleep")).ExitCode == 1);
        await WaitAsync(async () => (await sandbox.ExecAsync("pgrep -f '/tmp/[i]gnored'")).ExitCode == 1);
    }

    [Fact]
    public async Task Ctrl_C_ends_the_sandbox_of_run_and_reports_it()
    {
        var before = (await fixture.Server.Pandora.ListAsync()).Select(s => s.Id).ToHashSet();
        using var cli = Start("run", "--json", "sleep 297");
        await WaitAsync(async () => (await fixture.Server.Pandora.ListAsync()).Any(s => !before.Contains(s.Id) && s.ExecCount == 1));
        await InterruptAsync(cli);
        Assert.Equal((130, $$"""{"detail":"{{Interrupted}}; its sandbox ended","code":"cancelled"}""" + "\n"),
            (cli.ExitCode, await cli.StandardError.ReadToEndAsync()));
        Assert.DoesNotContain(await fixture.Server.Pandora.ListAsync(), s => !before.Contains(s.Id));
    }

    // Starts the CLI with SIGINT at its default action, as a shell in a terminal does. A test run in the background ignores SIGINT, and
    // its children inherit that.
    private Process Start(params string[] arguments) => Process.Start(new ProcessStartInfo(
        "nsenter", [$"--net={fixture.World.Host.Path}", "env", "--default-signal=INT",
            Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli"), .. arguments])
    {
        RedirectStandardError = true,
        Environment = { ["PANDORA_DATA_DIR"] = fixture.Server.DataDir },
    })!;

    private static void Interrupt(Process cli)
    {
        using var handle = ProcessHandle.TryOpen(cli.Id);
        handle!.Kill(2); // SIGINT
    }

    private static async Task InterruptAsync(Process cli)
    {
        Interrupt(cli);
        await cli.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(120));
    }

    private static async Task WaitAsync(Func<Task<bool>> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (!await condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }
    }

    private async Task<string> RunAsync(string tool, params string[] arguments) =>
        await Command.RunAsync(
            "nsenter", [$"--net={fixture.World.Host.Path}", tool, .. arguments],
            environment: new Dictionary<string, string> { ["PANDORA_DATA_DIR"] = fixture.Server.DataDir });
}
