using System.Diagnostics;
using System.Net.Http.Json;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.TestHost;

namespace Pandora.HostTests;

// Code, input and outputs: which bytes arrive, in which order, and what an answer says of those that are missing.
public abstract partial class CommandContract
{
    private const string Alternate = "for i in $(seq 300); do echo o$i; echo e$i >&2; done";

    private static readonly string Alternating = string.Concat(Enumerable.Range(1, 300).Select(i => $"o{i}\ne{i}\n"));

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task All_bytes_go_in_and_come_out_on_both_outputs(string? user)
    {
        byte[] all = [.. Enumerable.Range(0, 256).Select(i => (byte)i), .. Enumerable.Range(0, 256).Select(i => (byte)(255 - i)), 0, 0];
        var result = await RunAsync("cat | tee /dev/stderr", Binary(all, user));
        Assert.Equal(all, result.StdoutBytes!.Value.ToArray());
        Assert.Equal(all, result.StderrBytes!.Value.ToArray());
        Assert.False(result.IsLossy || result.IsTruncated);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(65_536)]
    [InlineData((1024 * 1024) + 1)]
    [InlineData(Limits.MaxStdinBytes)]
    public async Task Input_of_any_length_and_any_bytes_arrives_whole(int length)
    {
        var bytes = new byte[length];
        new Random(length).NextBytes(bytes);
        var hash = Convert.ToHexStringLower(SHA256.HashData(bytes));
        foreach (var user in new[] { null, "user" })
        {
            var result = await RunAsync("tee /tmp/in | sha256sum; wc -c < /tmp/in; rm /tmp/in", Binary(bytes, user, seconds: 300));
            Assert.Equal($"{hash}  -\n{length}\n", result.Stdout);
        }

        // It comes back whole, too.
        var back = await RunAsync("cat", Binary(bytes, seconds: 300));
        Assert.True(back.StdoutBytes!.Value.Span.SequenceEqual(bytes));
        Assert.False(back.IsTruncated);
    }

    [Fact]
    public async Task Input_as_text_may_have_NUL_and_input_that_is_not_read_delays_nothing()
    {
        Assert.Equal("61 00 62 c3 a9 0a\n", await OutputAsync("od -An -tx1 | xargs", As(null, stdin: "a\0bé\n")));
        var much = new byte[Limits.MaxStdinBytes];
        Assert.Equal("done\n", (await RunAsync("echo done", Binary(much))).Stdout);
        Assert.Equal("5\n", (await RunAsync("head -c 5 | wc -c", Binary(much))).Stdout);
        Assert.Equal("closed\n", (await RunAsync("exec < /dev/null; sleep 1; echo closed", Binary(much))).Stdout);
        var tooMuch = await Assert.ThrowsAsync<InvalidRequestException>(() => RunAsync("true", Binary([.. much, 0])));
        Assert.Equal(["stdin"], tooMuch.Errors.Keys);
        Assert.Equal("", await OutputAsync("cat"));
    }

    [Fact]
    public async Task Text_is_flagged_as_lossy_exactly_when_bytes_were_replaced()
    {
        foreach (var (printf, text, isLossy) in new[]
        {
            (@"\377", "\uFFFD", true),
            (@"a\303", "a\uFFFD", true),
            (@"\355\240\200", "\uFFFD\uFFFD\uFFFD", true),
            (@"\357\277\275", "\uFFFD", false),
            (@"\000\001\177", "\0\u0001\u007f", false),
            (@"h\303\251 \342\202\254 \360\237\232\200", "hé € 🚀", false),
            (@"\357\273\277bom", "\uFEFFbom", false),
        })
        {
            foreach (var to in new[] { 1, 2 })
            {
                var result = await RunAsync($"printf '{printf}' >&{to}");
                Assert.Equal((printf, text, isLossy), (printf, to == 1 ? result.Stdout : result.Stderr, result.IsLossy));
                Assert.Equal("", to == 1 ? result.Stderr : result.Stdout);
            }
        }
    }

    [Fact]
    public async Task Characters_that_are_written_in_pieces_arrive_whole()
    {
        const string Text = "é€🚀ſ";
        var result = await RunAsync(
            """
            python3 -c '
            import os, time
            for i, byte in enumerate("é€🚀ſ".encode() * 60):
                os.write(1, bytes([byte]))
                os.write(2, bytes([byte]))
                if i % 37 == 0: time.sleep(0.02)
            '
            """);
        var whole = string.Concat(Enumerable.Repeat(Text, 60));
        Assert.Equal((whole, whole, false), (result.Stdout, result.Stderr, result.IsLossy));
    }

    [Fact]
    public async Task A_timeout_has_the_output_until_then_in_the_encoding_that_was_asked_for()
    {
        var options = Binary([1, 2, 255], seconds: 12);
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync("cat; printf '\\0\\376' >&2; sleep 60", options));
        Assert.Equal([1, 2, 255], timeout.StdoutBytes!.Value.ToArray());
        Assert.Equal([0, 254], timeout.StderrBytes!.Value.ToArray());
        Assert.False(timeout.IsLossy || timeout.IsTruncated);
    }

    [Fact]
    public async Task The_answers_members_on_the_wire_are_those_that_the_request_asked_for()
    {
        string[] plain = ["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms"];
        var answer = await PostAsync(new { code = "echo out; echo err >&2; exit 3" });
        Assert.Equal(plain, answer.EnumerateObject().Select(p => p.Name));
        Assert.Equal(
            ("out\n", "err\n", 3),
            (answer.GetProperty("stdout").GetString(), answer.GetProperty("stderr").GetString(),
                answer.GetProperty("exit_code").GetInt32()));

        answer = await PostAsync(new { code = "cat; printf '\\377'", stdin = "AP8=", stdin_encoding = "base64", encoding = "base64" });
        Assert.Equal(plain, answer.EnumerateObject().Select(p => p.Name));
        Assert.Equal("AP//", answer.GetProperty("stdout").GetString());

        answer = await PostAsync(new { code = "printf '\\377'", encoding = "utf-8" });
        Assert.Equal([.. plain, "lossy"], answer.EnumerateObject().Select(p => p.Name));

        answer = await PostAsync(new { code = "cat", stdin = "no base64!", stdin_encoding = "base64" }, status: 400);
        Assert.Equal("stdin", Assert.Single(answer.GetProperty("errors").EnumerateObject()).Name);
        answer = await PostAsync(new { code = "true", encoding = "latin1" }, status: 400);
        Assert.Equal("encoding", Assert.Single(answer.GetProperty("errors").EnumerateObject()).Name);
    }

    [Theory]
    [InlineData(null)]
    [InlineData("user")]
    public async Task Merged_outputs_are_in_the_order_in_which_they_were_written(string? user)
    {
        var options = As(user);
        options.MergeOutputs = true;
        Assert.Equal(Alternating, await OutputAsync(Alternate, options));
        // Of several programs, and with writes of one byte.
        Assert.Equal("1a2b3c", await OutputAsync("printf 1; sh -c 'printf a >&2'; printf 2; sh -c 'printf b >&2; printf 3'; printf c >&2",
            options));
        Assert.Equal(
            string.Concat(Enumerable.Repeat("oe", 500)),
            await OutputAsync("python3 -c 'import os\nfor i in range(500): os.write(1, b\"o\"); os.write(2, b\"e\")'", options));
        var failed = await RunAsync("echo before; nosuchcommand; exec ls /nowhere", options);
        Assert.Equal(
            ("before\nbash: line 1: nosuchcommand: command not found\nls: cannot access '/nowhere': No such file or directory\n", "", 2),
            (failed.Stdout, failed.Stderr, failed.ExitCode));

        options.Timeout = TimeSpan.FromSeconds(15);
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => RunAsync($"{Alternate}; sleep 60", options));
        Assert.Equal((Alternating, ""), (timeout.Stdout, timeout.Stderr));
    }

    [Fact]
    public async Task Merged_outputs_share_the_limit_and_have_all_bytes()
    {
        var options = Binary([255, 0], seconds: 300);
        options.MergeOutputs = true;
        var bytes = await RunAsync("cat; printf '\\376' >&2", options);
        Assert.Equal([255, 0, 254], bytes.StdoutBytes!.Value.ToArray());
        Assert.Equal(0, bytes.StderrBytes!.Value.Length);
        var cut = await RunAsync("for i in 1 2 3; do head -c 5000000 /dev/zero; head -c 1000000 /dev/zero >&2; done", options);
        Assert.Equal((true, Limits.MaxOutputBytes, 0), (cut.IsTruncated, cut.StdoutBytes!.Value.Length, cut.StderrBytes!.Value.Length));

        // Without it each has its own.
        var apart = await RunAsync(Alternate);
        Assert.Equal(string.Concat(Enumerable.Range(1, 300).Select(i => $"o{i}\n")), apart.Stdout);
        Assert.Equal(string.Concat(Enumerable.Range(1, 300).Select(i => $"e{i}\n")), apart.Stderr);
    }

    [Fact]
    public async Task The_command_line_passes_bytes_in_and_out()
    {
        var bytes = new byte[300_000];
        new Random(7).NextBytes(bytes);
        var (exitCode, output, error) = await CliAsync(bytes, "exec", "-i", Sandbox.Id, "cat; printf '\\377\\0' >&2; exit 5");
        Assert.Equal(5, exitCode);
        Assert.Equal(bytes, output);
        Assert.Equal([255, 0], error);
        (exitCode, output, error) = await CliAsync([], "exec", "--merge", Sandbox.Id, "echo o; echo e >&2; echo p");
        Assert.Equal((0, "o\ne\np\n", 0), (exitCode, Encoding.UTF8.GetString(output), error.Length));
        (exitCode, output, error) = await CliAsync([], "exec", Sandbox.Id, "head -c 11000000 /dev/zero");
        Assert.Equal((0, 11_000_000, 0), (exitCode, output.Length, error.Length));
    }

    private protected static ExecOptions Binary(byte[] stdin, string? user = null, double seconds = 120)
    {
        var options = As(user, seconds);
        (options.StdinBytes, options.BinaryOutput) = (stdin, true);
        return options;
    }

    private protected async Task<JsonElement> PostAsync(object body, int status = 200)
    {
        using var response = await Server.Http.PostAsJsonAsync(new Uri($"/sandboxes/{Sandbox.Id}/exec", UriKind.Relative), body);
        Assert.Equal(status, (int)response.StatusCode);
        return await response.Content.ReadFromJsonAsync<JsonElement>();
    }

    private async Task<(int ExitCode, byte[] Output, byte[] Error)> CliAsync(byte[] input, params string[] arguments)
    {
        var cli = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli");
        using var process = Process.Start(new ProcessStartInfo("nsenter", [$"--net={fixture.World.Host.Path}", cli, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            Environment = { ["PANDORA_DATA_DIR"] = fixture.Server.DataDir },
        })!;
        using var output = new MemoryStream();
        using var error = new MemoryStream();
        var reading = Task.WhenAll(
            process.StandardOutput.BaseStream.CopyToAsync(output), process.StandardError.BaseStream.CopyToAsync(error));
        await process.StandardInput.BaseStream.WriteAsync(input);
        process.StandardInput.Close();
        await reading.WaitAsync(TimeSpan.FromMinutes(5));
        await process.WaitForExitAsync();
        return (process.ExitCode, output.ToArray(), error.ToArray());
    }
}
