using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Linux;
using Pandora.Tests.Client;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli;

/// <summary>Commands whose output is shown as it comes, that are fed and stopped, as a shell sees them.</summary>
public sealed class SessionTests
{
    [Fact]
    public async Task Output_is_shown_before_the_command_ends()
    {
        await using var server = await ProcessServer.StartAsync();
        using var process = Start(["--url", server.Url, "exec", "abc", "code"]);
        server.Process.Write(ProcessEvents.Stdout, [0xFF, (byte)'\n']);
        var first = new byte[2];
        await process.StandardOutput.BaseStream.ReadExactlyAsync(first, Token).AsTask().WaitAsync(Limit, Token);
        Assert.Equal([0xFF, (byte)'\n'], first);
        Assert.False(process.HasExited);
        server.Process.Write(ProcessEvents.Stderr, "err\n"u8.ToArray());
        server.Process.Drop(7);
        server.Process.End(3);
        Assert.Equal((3, "", "err\npandora: 7 bytes of output are missing here: they are not kept any more\n"), await EndAsync(process));
        Assert.Contains("\"timeout\":86400,", server.Bodies[^1], StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(0, "300")]
    [InlineData(7200, "7200")]
    public async Task Without_a_timeout_a_command_has_as_long_as_the_server_allows(double allowed, string asked)
    {
        await using var server = await ProcessServer.StartAsync();
        server.MaxTimeout = allowed;
        server.Process.End(0);
        Assert.Equal(0, (await RunAsync(["--url", server.Url, "run", "-q", "true"])).ExitCode);
        Assert.Contains($"\"timeout\":{asked},", server.Bodies[^1], StringComparison.Ordinal);
        Assert.Contains("DELETE /sandboxes/abc?receipt=true", server.Requests);
    }

    [Fact]
    public async Task A_timeout_has_its_exit_code_and_its_words()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Write(ProcessEvents.Stdout, "so far"u8.ToArray());
        server.Process.End(137, timedOut: true, killResult: "killed");
        Assert.Equal(
            (124, "so far", "pandora: the command reached its timeout and was killed\n"),
            await RunAsync(["--url", server.Url, "exec", "--timeout", "5", "abc", "code"]));
        var (exitCode, _, error) = await RunAsync(["--url", server.Url, "run", "--timeout", "5", "code"]);
        Assert.Equal(124, exitCode);
        Assert.Contains("timed out", error, StringComparison.Ordinal);
    }

    [Fact]
    public async Task Input_of_any_length_is_passed_on_as_it_comes()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Fed = bytes => server.Process.Write(ProcessEvents.Stdout, bytes);
        server.Process.InputEnded = () => server.Process.End(4);
        using var process = Start(["--url", server.Url, "exec", "-i", "abc", "cat"]);
        await process.StandardInput.BaseStream.WriteAsync("first\n"u8.ToArray(), Token);
        await process.StandardInput.BaseStream.FlushAsync(Token);
        var first = new byte[6];
        await process.StandardOutput.BaseStream.ReadExactlyAsync(first, Token).AsTask().WaitAsync(Limit, Token);
        Assert.Equal("first\n", Encoding.UTF8.GetString(first));
        // More than exec takes with its request.
        var rest = new byte[Limits.MaxStdinBytes + 100_000];
        new Random(1).NextBytes(rest);
        using var output = new MemoryStream();
        var reading = process.StandardOutput.BaseStream.CopyToAsync(output, Token);
        await process.StandardInput.BaseStream.WriteAsync(rest, Token);
        process.StandardInput.Close();
        await reading.WaitAsync(Limit, Token);
        await process.WaitForExitAsync(Token);
        Assert.Equal(4, process.ExitCode);
        Assert.Equal(rest, output.ToArray());
        var request = server.Process.Request!;
        Assert.Equal(
            (true, true, true, null), (request.Stdin, request.WaitForReader, request.KeepsAlive, request.Timeout));
    }

    [Fact]
    public async Task A_command_that_does_not_read_its_input_ends_all_the_same()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.End(5);
        using var process = Start(["--url", server.Url, "exec", "-i", "abc", "true"]);
        Assert.Equal(5, (await EndAsync(process)).ExitCode);
    }

    [Theory]
    [InlineData("exec abc")]
    [InlineData("exec -i abc")]
    [InlineData("run")]
    public async Task A_closed_output_ends_the_command_without_a_word(string arguments)
    {
        await using var server = await ProcessServer.StartAsync();
        var writing = true;
        server.Process.Signalled = name =>
        {
            writing = false;
            server.Process.End(name == "PIPE" ? 141 : 137);
        };
        var endless = Task.Run(async () =>
        {
            while (Volatile.Read(ref writing))
            {
                server.Process.Write(ProcessEvents.Stdout, Encoding.UTF8.GetBytes(string.Concat(Enumerable.Repeat("y\n", 5000))));
                await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, Token);
            }
        }, Token);
        using var shell = Process.Start(new ProcessStartInfo(
            "bash", ["-c", $"'{Executable}' --url {server.Url} {arguments} yes < /dev/zero | head -n 2; echo ${{PIPESTATUS[0]}}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        Assert.Equal((0, "y\ny\n141\n", ""), await EndAsync(shell));
        await endless;
        Assert.Equal("PIPE", server.Process.Signals[0]);
    }

    [Fact]
    public async Task The_first_Ctrl_C_is_the_commands_and_it_has_its_own_exit_code()
    {
        await using var server = await ProcessServer.StartAsync();
        using var process = Start(["--url", server.Url, "exec", "abc", "sleep 100"]);
        server.Process.Write(ProcessEvents.Stdout, "."u8.ToArray());
        await process.StandardOutput.BaseStream.ReadExactlyAsync(new byte[1], Token).AsTask().WaitAsync(Limit, Token);
        Interrupt(process);
        var (exitCode, _, error) = await EndAsync(process);
        Assert.Equal(130, exitCode);
        Assert.Contains("the command ended after SIGINT; sandbox abc lives on", error, StringComparison.Ordinal);
        Assert.Equal(["INT"], server.Process.Signals);
    }

    [Theory]
    [InlineData("exec", "sandbox abc lives on")]
    [InlineData("run", "its sandbox ended")]
    public async Task The_second_Ctrl_C_kills(string command, string words)
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Signalled = name =>
        {
            if (name == "KILL")
            {
                server.Process.End(137);
            }
        };
        using var process = Start(["--url", server.Url, command, .. command == "exec" ? (string[])["abc"] : [], "sleep 100"]);
        server.Process.Write(ProcessEvents.Stdout, "."u8.ToArray());
        await process.StandardOutput.BaseStream.ReadExactlyAsync(new byte[1], Token).AsTask().WaitAsync(Limit, Token);
        Interrupt(process);
        await UntilAsync(() => server.Process.Signals.Length == 1);
        Interrupt(process);
        var (exitCode, _, error) = await EndAsync(process);
        Assert.Equal(137, exitCode);
        Assert.Contains(words, error, StringComparison.Ordinal);
        Assert.Equal(["INT", "KILL"], server.Process.Signals);
        Assert.Equal(command == "run", server.Requests.Any(r => r.StartsWith("DELETE", StringComparison.Ordinal)));
    }

    [Fact]
    public async Task Processes_are_listed_read_and_signalled()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Write(ProcessEvents.Stdout, "out"u8.ToArray());
        server.Process.Write(ProcessEvents.Stderr, "err"u8.ToArray());
        const string Id = ScriptedProcess.Id;
        Assert.Equal((0, Id + "\n", ""), await RunAsync(["--url", server.Url, "ps", "abc"]));
        var (_, json, _) = await RunAsync(["--url", server.Url, "ps", "abc", "--json"]);
        Assert.Equal(Id, JsonDocument.Parse(json).RootElement[0].GetProperty("process_id").GetString());
        Assert.Equal((0, "out", "err"), await RunAsync(["--url", server.Url, "logs", "abc", Id]));
        using var following = Start(["--url", server.Url, "logs", "-f", "--from", "1", "abc", Id]);
        await following.StandardOutput.BaseStream.ReadExactlyAsync(new byte[2], Token).AsTask().WaitAsync(Limit, Token);
        Assert.Equal((0, "", ""), await RunAsync(["--url", server.Url, "signal", "abc", Id]));
        Assert.Equal(["TERM"], server.Process.Signals);
        Assert.Equal((0, "", "err"), await EndAsync(following));
        var (exitCode, _, error) = await RunAsync(["--url", server.Url, "signal", "abc", Id, "HUP", "--json"]);
        Assert.Equal((125, "process_state"), (exitCode, JsonDocument.Parse(error).RootElement.GetProperty("code").GetString()));
        Assert.Equal(125, (await RunAsync(["--url", server.Url, "logs", "abc", "0000000000000000"])).ExitCode);
    }

    [Theory]
    [InlineData("exec", "-t", "abc", "bash")]
    [InlineData("run", "-it", "bash")]
    [InlineData("shell")]
    [InlineData("shell", "abc")]
    public async Task A_terminal_needs_one(params string[] arguments)
    {
        await using var server = await ProcessServer.StartAsync();
        var (exitCode, _, error) = await RunAsync(["--url", server.Url, .. arguments]);
        Assert.Equal(125, exitCode);
        Assert.Contains("a terminal (-t, shell) needs one as standard input", error, StringComparison.Ordinal);
        Assert.Empty(server.Requests);
    }

    [Fact]
    public async Task A_terminal_shows_what_is_typed_and_is_restored()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Fed = bytes =>
        {
            server.Process.Write(ProcessEvents.Stdout, Encoding.UTF8.GetBytes($"<{Convert.ToHexString(bytes)}>"));
            if (bytes.Contains((byte)'q'))
            {
                server.Process.End(6);
            }
        };
        // Ctrl-C goes to the command as a key.
        using var script = StartInTerminal(server, "exec -it abc bash");
        await UntilAsync(() => server.Requests.Any(r => r.Contains("/attach", StringComparison.Ordinal)));
        await script.StandardInput.BaseStream.WriteAsync(new byte[] { 3 }, Token);
        await script.StandardInput.BaseStream.FlushAsync(Token);
        await UntilAsync(() => server.Process.Input.Length == 1);
        await script.StandardInput.BaseStream.WriteAsync("q"u8.ToArray(), Token);
        await script.StandardInput.BaseStream.FlushAsync(Token);
        var (_, output, _) = await EndAsync(script);
        Assert.Contains("<03><71>", output, StringComparison.Ordinal);
        Assert.Contains("code 6", output, StringComparison.Ordinal);
        AssertRestored(output);
        Assert.Equal(new TerminalSize(100, 30), server.Process.Request!.Terminal);
    }

    [Fact]
    public async Task A_shell_in_a_fresh_sandbox_is_left_by_a_tilde_and_a_point()
    {
        await using var server = await ProcessServer.StartAsync();
        using var script = StartInTerminal(server, "shell --user user");
        await UntilAsync(() => server.Requests.Any(r => r.Contains("/attach", StringComparison.Ordinal)));
        await script.StandardInput.BaseStream.WriteAsync("~."u8.ToArray(), Token);
        await script.StandardInput.BaseStream.FlushAsync(Token);
        var (_, output, _) = await EndAsync(script);
        Assert.Contains("left the terminal; SIGHUP was sent to its command", output, StringComparison.Ordinal);
        Assert.Contains("0 remaining", output, StringComparison.Ordinal);
        Assert.Contains("code 129", output, StringComparison.Ordinal);
        AssertRestored(output);
        Assert.Equal(["HUP"], server.Process.Signals);
        var request = server.Process.Request!;
        Assert.Equal(("exec bash -l", "user", true, true), (request.Code, request.User, request.KeepsAlive, request.WaitForReader));
        Assert.Contains("DELETE /sandboxes/abc?receipt=true", server.Requests);
    }

    [Fact]
    public async Task A_terminal_is_restored_when_the_program_is_terminated()
    {
        await using var server = await ProcessServer.StartAsync();
        var file = Path.GetTempFileName();
        using var script = StartInTerminal(server, "exec -t abc bash", file);
        await UntilAsync(() => server.Requests.Any(r => r.Contains("/attach", StringComparison.Ordinal)));
        using (var handle = ProcessHandle.TryOpen(int.Parse(await File.ReadAllTextAsync(file, Token), CultureInfo.InvariantCulture)))
        {
            handle!.Kill(15);
        }

        File.Delete(file);
        var (_, output, _) = await EndAsync(script);
        Assert.Contains("code 143", output, StringComparison.Ordinal);
        Assert.Contains("left the terminal; SIGHUP was sent to its command; sandbox abc lives on", output, StringComparison.Ordinal);
        AssertRestored(output);
        Assert.Equal(["HUP"], server.Process.Signals);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static void Interrupt(Process process)
    {
        using var handle = ProcessHandle.TryOpen(process.Id);
        handle!.Kill(2);
    }

    // The program script gives a terminal.
    private static Process StartInTerminal(ProcessServer server, string arguments, string pidFile = "/dev/null")
    {
        var program = $"sh -c 'echo $$ > {pidFile}; exec \"$0\" \"$@\"' '{Executable}'";
        var lines = $"stty rows 30 cols 100; stty -g; {program} --url {server.Url} {arguments}; echo code $?; stty -g";
        return Process.Start(new ProcessStartInfo("script", ["-qec", lines, "/dev/null"])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
    }

    private static void AssertRestored(string output)
    {
        var settings = output.Split('\n', StringSplitOptions.TrimEntries)
            .Where(l => l.Count(c => c == ':') > 10).Select(l => l[(l.LastIndexOf('>') + 1)..]).ToList();
        Assert.Equal(2, settings.Count);
        Assert.Equal(settings[0], settings[1]);
    }
}
