using System.Text;
using System.Text.Json;
using System.Text.Unicode;
using CsCheck;
using Pandora.Client;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>
/// Answers of exec. The server writes them by hand because they may be long. They equal the serialized records of the contract.
/// </summary>
public sealed class ExecAnswerTests
{
    [Fact]
    public async Task Any_output_arrives_unchanged()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        await Gen.String[Gen.Char['\u0001', '\uffff'], 0, 40].SampleAsync(
            async text =>
            {
                // Replaces characters that UTF-8 cannot encode. A guest's output never contains them.
                text = System.Text.Encoding.UTF8.GetString(System.Text.Encoding.UTF8.GetBytes(text));
                var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec",
                    JsonSerializer.Serialize(new Dictionary<string, string> { ["code"] = $"echo {text}" }));
                Assert.Equal(text + "\n", answer.Body.GetProperty("stdout").GetString());
            }, iter: 100, threads: 1);
    }

    [Theory]
    [InlineData(10_000_000, 'a')]
    [InlineData(3_000_000, '\u0001')]
    [InlineData(3_000_000, '€')]
    public async Task A_long_output_arrives_whole(int length, char letter)
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        using var pandora = new PandoraClient(api.Http);
        var id = await api.CreateAsync();
        var result = await pandora.Connect(id).ExecAsync($"repeat {length} {letter}");
        Assert.Equal(new string(letter, length), result.Stdout);
        Assert.Equal(0, result.ExitCode);
        Assert.False(result.IsTruncated);
    }

    [Fact]
    public async Task Flags_are_members_only_when_they_are_true()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var plain = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "exit 3"}""");
        Assert.Equal(["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms"], plain.Body.EnumerateObject().Select(p => p.Name));
        var cut = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "truncated"}""");
        Assert.Equal(
            ["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms", "truncated"], cut.Body.EnumerateObject().Select(p => p.Name));
        Assert.True(cut.Body.GetProperty("truncated").GetBoolean());
        // The records of the contract are serialized in the same way.
        Assert.Equal("""{"sandbox_id":"x","exit_code":0,"stdout":"","stderr":"","exec_ms":1}""",
            JsonSerializer.Serialize(new ExecResponse("x", 0, "", "", 1), PandoraJson.Default.ExecResponse));
        Assert.EndsWith(""","truncated":true,"disk_lost_data":true}""",
            JsonSerializer.Serialize(
                new ExecResponse("x", 0, "", "", 1, Truncated: true, DiskLostData: true), PandoraJson.Default.ExecResponse));
        Assert.True(JsonSerializer.Deserialize(cut.Body.GetRawText(), PandoraJson.Default.ExecResponse)!.Truncated);
    }

    [Fact]
    public async Task Any_bytes_arrive_unchanged_as_base64_and_are_told_to_be_lossy_as_text()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        await Gen.Byte.Array[0, 40].SampleAsync(
            async bytes =>
            {
                var code = $"bytes {Convert.ToHexString(bytes)}";
                var answer = (await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec",
                    $$"""{"code": "{{code}}", "encoding": "base64"}""")).Body;
                Assert.Equal(bytes, answer.GetProperty("stdout").GetBytesFromBase64());
                Assert.Equal(
                    ["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms"], answer.EnumerateObject().Select(p => p.Name));
                var text = (await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", $$"""{"code": "{{code}}"}""")).Body;
                Assert.Equal(Encoding.UTF8.GetString(bytes), text.GetProperty("stdout").GetString());
                Assert.Equal(!Utf8.IsValid(bytes), text.TryGetProperty("lossy", out var lossy) && lossy.GetBoolean());
            }, iter: 200, threads: 1);
    }

    [Fact]
    public async Task An_output_of_the_greatest_length_arrives_whole_as_base64()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        using var pandora = new PandoraClient(api.Http);
        var bytes = new byte[Limits.MaxStdinBytes];
        new Random(1).NextBytes(bytes);
        var result = await pandora.Connect(await api.CreateAsync()).ExecAsync(
            "cat", new ExecOptions { StdinBytes = bytes, BinaryOutput = true });
        Assert.True(result.StdoutBytes!.Value.Span.SequenceEqual(bytes));
        Assert.False(result.IsLossy);
    }

    [Fact]
    public async Task A_command_whose_process_the_memory_killer_ended_says_so_with_the_limit()
    {
        await using var api = await FakeServer.StartAsync();
        var answer = await api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "oom 6000000000"}""");
        Assert.Equal(
            ["sandbox_id", "exit_code", "stdout", "stderr", "exec_ms", "oom", "memory_limit_bytes"],
            answer.Body.EnumerateObject().Select(p => p.Name));
        Assert.Equal(
            (true, 6_000_000_000), (answer.Body.GetProperty("oom").GetBoolean(), answer.Body.GetProperty("memory_limit_bytes").GetInt64()));
    }

    [Theory]
    [InlineData("utf-8", "a\uFFFD", "and so wrong", true)]
    [InlineData("base64", "Yf8=", "YW5kIHNvIHdyb25n", false)]
    public async Task A_timeout_has_the_flags_and_the_encoding_of_an_answer(string encoding, string stdout, string stderr, bool isLossy)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        api.Node.Sandboxes.Get(id).HasLostData = true;
        var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec",
            $$"""{"code": "timeout-with-all", "encoding": "{{encoding}}"}""");
        Assert.Equal(504, answer.Status);
        // The record of the contract reads each of them.
        var problem = JsonSerializer.Deserialize(answer.Body.GetRawText(), PandoraJson.Default.ApiProblem)!;
        Assert.Equal(
            (stdout, stderr, true, isLossy ? true : null, true, 1024L, true),
            (problem.Stdout, problem.Stderr, problem.Truncated, problem.Lossy, problem.Oom, problem.MemoryLimitBytes,
                problem.DiskLostData));
    }

    [Theory]
    [InlineData("exit 0", 200)]
    [InlineData("timeout", 504)]
    public async Task Each_answer_says_that_the_disk_lost_data_only_if_it_did(string code, int status)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var (path, body) = ($"/sandboxes/{id}/exec", $$"""{"code": "{{code}}"}""");
        var before = await api.SendAsync(HttpMethod.Post, path, body);
        Assert.Equal((status, false), (before.Status, before.Body.TryGetProperty("disk_lost_data", out _)));
        api.Node.Sandboxes.Get(id).HasLostData = true;
        var after = await api.SendAsync(HttpMethod.Post, path, body);
        Assert.Equal((status, true), (after.Status, after.Body.GetProperty("disk_lost_data").GetBoolean()));
    }

    [Theory]
    [InlineData(CommandOutcome.Killed, CommandStates.Killed)]
    [InlineData(CommandOutcome.Unknown, CommandStates.Unknown)]
    [InlineData(CommandOutcome.NotStarted, CommandStates.NotStarted)]
    [InlineData(CommandOutcome.Unreachable, CommandStates.Unreachable)]
    public async Task A_timeout_reports_the_outcome_of_the_command_and_nothing_more(CommandOutcome outcome, string command)
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        using var pandora = new PandoraClient(api.Http);
        var id = await api.CreateAsync();
        var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{id}/exec", $$"""{"code": "timeout {{outcome}}", "timeout": 2.5}""");
        Assert.Equal((504, "application/problem+json"), (answer.Status, answer.Response.Content.Headers.ContentType!.MediaType));
        Assert.Equal(
            ["title", "status", "detail", "code", "command", "stdout", "stderr"], answer.Body.EnumerateObject().Select(p => p.Name));
        Assert.Equal($"the command ran into its timeout of 2.5 s; a test says {outcome}", answer.Body.GetProperty("detail").GetString());
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(() => pandora.Connect(id).ExecAsync($"timeout {outcome}"));
        Assert.Equal((command, "so far", "and so wrong"), (timeout.Command, timeout.Stdout, timeout.Stderr));
    }

    [Fact]
    public async Task The_answer_for_an_unreachable_guest_reports_the_known_state_of_the_command()
    {
        await using var api = await FakeServer.StartAsync();
        await using var clock = api.Node.RunClock();
        var answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "unsent"}""");
        Assert.Equal((502, "not_started"), (answer.Status, answer.Body.GetProperty("command").GetString()));
        answer = await api.SendAsync(HttpMethod.Post, $"/sandboxes/{await api.CreateAsync()}/exec", """{"code": "break"}""");
        Assert.False(answer.Body.TryGetProperty("command", out _));
    }
}
