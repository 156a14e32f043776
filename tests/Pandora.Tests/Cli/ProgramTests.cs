using System.Diagnostics;
using System.Text.Json;
using Pandora.Cli.Commands;
using Pandora.Linux;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli;

/// <summary>The program as a shell sees it: exit codes, what goes to which output, and what it reads.</summary>
public sealed class ProgramTests
{
    private const string Nowhere = "http://127.0.0.1:1";

    [Theory]
    [InlineData("--nope", "run", "--nope", "true")]
    [InlineData("Required argument", "run")]
    [InlineData("Required argument", "exec", "abc")]
    [InlineData("--nope", "exec", "--nope", "abc", "true")]
    [InlineData("--timeout", "run", "--timeout", "soon", "true")]
    [InlineData("--timeout", "exec", "abc", "--timeout")]
    [InlineData("name=value", "exec", "-e", "novalue", "abc", "true")]
    [InlineData("is not an address", "run", "--url", "nowhere", "true")]
    [InlineData("--nope", "create", "--nope")]
    [InlineData("--nope", "rm", "--nope")]
    [InlineData("--nope", "ls", "--nope")]
    [InlineData("--nope", "health", "--nope")]
    [InlineData("nope", "stress", "--requests", "nope")]
    [InlineData("nope", "nope")]
    public async Task A_command_line_that_is_not_understood_has_no_exit_code_of_a_command(string words, params string[] arguments)
    {
        var (exitCode, output, error) = await RunAsync([.. arguments]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains(words, Assert.Single(error.TrimEnd('\n').Split('\n')));

        (exitCode, output, error) = await RunAsync(["--json", .. arguments]);
        Assert.Equal((125, ""), (exitCode, output));
        var problem = JsonDocument.Parse(error).RootElement;
        Assert.Equal("usage", problem.GetProperty("code").GetString());
        Assert.Contains(words, problem.GetProperty("detail").GetString());
    }

    [Theory]
    [InlineData("run", "true")]
    [InlineData("exec", "abc", "true")]
    [InlineData("create")]
    [InlineData("ls")]
    [InlineData("rm", "--all")]
    [InlineData("health")]
    public async Task A_server_that_does_not_answer_is_told_in_the_form_that_was_asked_for(params string[] arguments)
    {
        var (exitCode, output, error) = await RunAsync(["--url", Nowhere, .. arguments]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.StartsWith("pandora: no Pandora server answers", error);

        (exitCode, output, error) = await RunAsync(["--url", Nowhere, "--json", .. arguments]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Equal("unreachable", JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
        Assert.Contains("./pandora up", JsonDocument.Parse(error).RootElement.GetProperty("hint").GetString());
    }

    [Fact]
    public async Task An_error_of_the_api_has_its_members_in_json_and_its_sentence_in_text()
    {
        const string Problem =
            """{"title":"Bad Request","status":400,"detail":"timeout must be """
            + """from 1 to 300","code":"invalid_request","errors":{"timeout":["must be from 1 to 300"]}}""";
        await using var server = new OneAnswerServer(400, Problem);
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "--timeout", "0", "abc", "true"]);
        Assert.Equal((125, "", "pandora: timeout must be from 1 to 300\n"), (exitCode, output, error));

        (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "--json", "--timeout", "0", "abc", "true"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.True(JsonElement.DeepEquals(JsonDocument.Parse(Problem).RootElement, JsonDocument.Parse(error).RootElement), error);

        (exitCode, output, error) = await RunAsync(["--url", server.Url, "rm", "--json", "abc"]);
        Assert.Equal((1, "[]\n"), (exitCode, output));
        Assert.Equal("invalid_request", JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
    }

    [Fact]
    public async Task A_command_that_timed_out_has_its_output_in_the_error()
    {
        await using var server = new OneAnswerServer(
            504, """{"status":504,"detail":"it ran into its timeout","code":"exec_timeout","stdout":"so far","stderr":"err"}""")
        {
            ProblemOfBytes =
                """{"status":504,"detail":"it ran into its timeout","code":"exec_timeout","stdout":"c28gZmFy","stderr":"ZXJy"}""",
        };
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "abc", "true"]);
        Assert.Equal((124, "so far", "errpandora: it ran into its timeout\n"), (exitCode, output, error));
        (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "--json", "abc", "true"]);
        Assert.Equal((124, ""), (exitCode, output));
        Assert.Equal("so far", JsonDocument.Parse(error).RootElement.GetProperty("stdout").GetString());
    }

    [Theory]
    [InlineData("<html>busy</html>", 502)]
    [InlineData("<html>hello</html>", 200)]
    public async Task An_answer_of_something_else_is_no_stack_trace(string body, int status)
    {
        await using var server = new OneAnswerServer(status, body);
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "--json", "abc", "true"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Equal("unexpected_answer", JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
    }

    [Fact]
    public async Task Standard_input_is_read_only_when_asked_for()
    {
        await using var server = new OneAnswerServer(
            200, """{"sandbox_id":"abc","exit_code":0,"stdout":"b3V0Cg==","stderr":"","exec_ms":1}""");
        // Never closed: a program that reads it to its end waits for ever.
        using var waiting = Start(["--url", server.Url, "exec", "abc", "true"]);
        Assert.Equal("out\n",
            await waiting.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken)
            .WaitAsync(Limit, TestContext.Current.CancellationToken));
        Assert.DoesNotContain("stdin", server.LastRequest);

        // A loop over standard input keeps its lines.
        var cli = Executable;
        using var loop = Process.Start(
            new ProcessStartInfo("sh", ["-c", $"while read l; do '{cli}' --url {server.Url} exec abc true; done"])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
            })!;
        await loop.StandardInput.WriteAsync("1\n2\n3\n");
        loop.StandardInput.Close();
        Assert.Equal("out\nout\nout\n",
            await loop.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken)
            .WaitAsync(Limit, TestContext.Current.CancellationToken));

        using var interactive = Start(["--url", server.Url, "--json", "exec", "-i", "abc", "true"]);
        await interactive.StandardInput.BaseStream.WriteAsync(new byte[] { 0, 0xFF, 0x0A });
        interactive.StandardInput.Close();
        await interactive.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Limit, TestContext.Current.CancellationToken);
        Assert.Contains("\"stdin\":\"AP8K\",\"stdin_encoding\":\"base64\"", server.LastRequest);
    }

    [Fact]
    public async Task The_commands_bytes_are_written_as_they_are()
    {
        await using var server = new OneAnswerServer(
            200, """{"sandbox_id":"abc","exit_code":0,"stdout":"77u/AP8NCsMo","stderr":"/w==","exec_ms":1}""");
        using var process = Start(["--url", server.Url, "exec", "--merge", "abc", "true"]);
        process.StandardInput.Close();
        using var output = new MemoryStream();
        using var error = new MemoryStream();
        await process.StandardOutput.BaseStream.CopyToAsync(output, TestContext.Current.CancellationToken);
        await process.StandardError.BaseStream.CopyToAsync(error, TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Limit, TestContext.Current.CancellationToken);
        Assert.Equal([0xEF, 0xBB, 0xBF, 0, 0xFF, 0x0D, 0x0A, 0xC3, 0x28], output.ToArray());
        Assert.Equal([0xFF], error.ToArray());
        Assert.Contains("\"encoding\":\"base64\",\"merge\":true", server.LastRequest);
    }

    [Theory]
    [InlineData("\"truncated\":true", "pandora: the output was longer than the 10 MiB that are kept\n")]
    [InlineData("\"oom\":true,\"memory_limit_bytes\":536870912",
        "pandora: the sandbox's memory (512 MiB) was full, and its kernel killed a process of the command\n")]
    [InlineData("\"oom\":true,\"memory_limit_bytes\":6442450944",
        "pandora: the sandbox's memory (6144 MiB) was full, and its kernel killed a process of the command\n")]
    public async Task What_the_outputs_do_not_show_is_said_on_standard_error(string members, string words)
    {
        await using var server = new OneAnswerServer(
            200, $$"""{"sandbox_id":"abc","exit_code":137,"stdout":"b3V0Cg==","stderr":"ZXJyCg==","exec_ms":1,{{members}}}""");
        Assert.Equal((137, "out\n", $"err\n{words}"), await RunAsync(["--url", server.Url, "exec", "abc", "true"]));
        await using var slow = new OneAnswerServer(
            504, $$"""{"status":504,"detail":"too slow","code":"exec_timeout","stdout":"b3V0Cg==","stderr":"ZXJyCg==",{{members}}}""");
        Assert.Equal(
            (124, "out\n", $"err\n{words}pandora: too slow\n"),
            await RunAsync(["--url", slow.Url, "exec", "abc", "true"]));
    }

    [Fact]
    public async Task An_output_that_is_not_base64_is_an_unexpected_answer()
    {
        await using var server = new OneAnswerServer(
            200, """{"sandbox_id":"abc","exit_code":0,"stdout":"plain!","stderr":"","exec_ms":1}""");
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "exec", "abc", "true"]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains("base64", error);
    }

    [Theory]
    [InlineData(
        200,
        """{"sandbox_id":"abc","slot":0,"guest_ip":"","age_seconds":"""
            + """1,"idle_seconds":0,"idle_timeout":60,"exec_count":1,"template":"default","egress":"none","metadata":{}}""",
        "sandbox abc lives on")]
    [InlineData(404, """{"status":404,"code":"sandbox_not_found"}""", "sandbox abc has ended")]
    [InlineData(503, """{"status":503,"detail":"not now","code":"recovering"}""", "whether sandbox abc lives on is not known: not now")]
    public async Task Ctrl_C_in_exec_tells_what_the_server_says_of_the_sandbox(int status, string body, string words)
    {
        await using var server = new OneAnswerServer(status, body)
        {
            IsSilent = request => request.Contains("/exec ", StringComparison.Ordinal),
        };
        var (exitCode, output, error) = await InterruptAsync(server, ["exec", "abc", "sleep 100"], "/exec ");
        Assert.Equal((130, ""), (exitCode, output));
        // What the server does is known, and not that it has done it.
        Assert.Equal(
            $"pandora: interrupted; the request was ended, and the server stops a command whose client has gone; {words}\n", error);
    }

    private const string Created =
        """{"sandbox_id":"abc","slot_id":0,"guest_ip":"","warm":true,"acquire_ms":1,"idle_timeout":60,"template":"default"}""";

    private const string Ran = """{"sandbox_id":"abc","exit_code":7,"stdout":"out\n","stderr":"","exec_ms":1}""";

    private const string RanAsBytes = """{"sandbox_id":"abc","exit_code":7,"stdout":"b3V0Cg==","stderr":"","exec_ms":1}""";

    private static string RanAsAskedFor(string request) =>
        request.Contains("\"base64\"", StringComparison.Ordinal) ? RanAsBytes : Ran;

    [Theory]
    [InlineData(503, """{"status":503,"detail":"the server is shutting down","code":"shutting_down"}""", "not_removed",
        "whether its sandbox abc ended is not known (the server is shutting down): './pandora rm abc' ends it, as does its idle timeout")]
    [InlineData(410, """{"status":410,"detail":"sandbox 'abc' is gone","code":"sandbox_gone"}""", "sandbox_gone", "sandbox 'abc' is gone")]
    public async Task A_command_of_run_keeps_its_exit_code_when_its_sandbox_cannot_be_ended(
        int status, string body, string code, string words)
    {
        await using var server = new OneAnswerServer(status, body)
        {
            AnswerTo = r => r.StartsWith("DELETE", StringComparison.Ordinal) ? null
                : r.Contains("/exec ", StringComparison.Ordinal) ? RanAsAskedFor(r)
                : Created,
        };
        Assert.Equal((7, "out\n", $"pandora: {words}\n"), await RunAsync(["--url", server.Url, "run", "exit 7"]));
        var (exitCode, output, error) = await RunAsync(["--url", server.Url, "run", "-q", "--json", "exit 7"]);
        Assert.Equal((7, Ran + "\n"), (exitCode, output));
        var problem = JsonDocument.Parse(error).RootElement;
        Assert.Equal((code, words), (problem.GetProperty("code").GetString(), problem.GetProperty("detail").GetString()));
    }

    [Fact]
    public void A_sandbox_that_was_not_removed_in_time_is_told_with_the_commands_exit_code()
    {
        var failure = FreshSandbox.NotEnded("abc", new TaskCanceledException(), exitCode: 7);
        Assert.Equal((7, "not_removed"), (failure.ExitCode, failure.Problem.Code));
        Assert.Equal(
            "its sandbox abc was not removed within 60 s: './pandora rm abc' ends it, as does its idle timeout", failure.Problem.Detail);
    }

    [Theory]
    [InlineData("health > /dev/full", "No space left on device")]
    [InlineData("exec abc true > /dev/full", "No space left on device")]
    [InlineData("exec -i abc true < /", "standard input: ")]
    public async Task What_fails_on_this_machine_is_not_told_as_the_servers_fault(string arguments, string words)
    {
        await using var server = new OneAnswerServer(200, """
            {"status":"ok","version":"1","pool_size":1,"warm_vms":1,"active_sandboxes":0,"max_sandboxes":1,"instance":"x","vmm":"x",
            "isolation":"x","notes":[]}
            """)
        {
            AnswerTo = r => r.Contains("/exec ", StringComparison.Ordinal) ? RanAsAskedFor(r) : null,
        };
        var cli = Executable;
        using var process = Process.Start(new ProcessStartInfo("sh", ["-c", $"'{cli}' --json --url {server.Url} {arguments}"])
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var (exitCode, _, error) = await EndAsync(process);
        Assert.Equal(125, exitCode);
        var problem = JsonDocument.Parse(error).RootElement;
        Assert.Equal("local_io", problem.GetProperty("code").GetString());
        Assert.StartsWith($"this program could not read or write: {words}", problem.GetProperty("detail").GetString());
    }

    [Fact]
    public async Task An_answer_that_breaks_off_is_not_told_as_a_fault_of_this_machine()
    {
        await using var server = new OneAnswerServer(200, "[]") { IsCut = true };
        var (exitCode, _, error) = await RunAsync(["--url", server.Url, "ls", "--json"]);
        Assert.Equal((125, "unexpected_answer"), (exitCode, JsonDocument.Parse(error).RootElement.GetProperty("code").GetString()));
    }

    [Fact]
    public async Task Those_that_rm_had_ended_are_told_when_it_is_interrupted()
    {
        await using var server = new OneAnswerServer(204, "")
        {
            IsSilent = request => request.Contains("/second ", StringComparison.Ordinal),
        };
        var (exitCode, output, error) = await InterruptAsync(server, ["rm", "--json", "first", "second", "third"], "/second ");
        Assert.Equal((130, "[\"first\"]\n"), (exitCode, output));
        Assert.Equal("cancelled", JsonDocument.Parse(error).RootElement.GetProperty("code").GetString());
    }

    private static async Task<(int ExitCode, string Output, string Error)> InterruptAsync(
        OneAnswerServer server, string[] arguments, string during = "")
    {
        using var process = Start(["--url", server.Url, .. arguments]);
        await UntilAsync(() => server.LastRequest.Length > 0 && server.LastRequest.Contains(during, StringComparison.Ordinal));

        using (var handle = ProcessHandle.TryOpen(process.Id))
        {
            handle!.Kill(2); // SIGINT
        }

        return await EndAsync(process);
    }

    [Theory]
    [InlineData("run")]
    [InlineData("exec")]
    public async Task Help_tells_of_input_and_of_exit_codes(string command)
    {
        var (exitCode, output, error) = await RunAsync([command, "--help"]);
        Assert.Equal((0, ""), (exitCode, error));
        var help = string.Join(' ', output.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries));
        string[] all = ["-i, --interactive", "-t, --tty", "10 MiB", "--merge", "124", "125", "Ctrl-C", "one JSON object on standard error"];
        foreach (var words in all)
        {
            Assert.Contains(words, help);
        }
    }
}
