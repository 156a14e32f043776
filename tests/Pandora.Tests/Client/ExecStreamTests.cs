using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Tests.Client;

/// <summary>Commands whose output is handed on as it comes.</summary>
public sealed class ExecStreamTests
{
    [Fact]
    public async Task Output_is_handed_on_as_it_comes_and_is_in_the_result()
    {
        await using var server = await ProcessServer.StartAsync();
        using var pandora = new PandoraClient(server.Url);
        var (first, order) = (new TaskCompletionSource(), new List<string>());
        var (stdout, stderr) = ("", "");
        var options = new ExecOptions
        {
            OnStdout = text => stdout += text,
            OnStderr = text => stderr += text,
            OnOutput = output =>
            {
                order.Add($"{output.Kind} {output.Offset}");
                first.TrySetResult();
            },
        };
        var running = pandora.Connect("abc").ExecAsync("code", options, Token);
        // The first of a character's two bytes.
        server.Process.Write(ProcessEvents.Stdout, [(byte)'a', 0xC3]);
        await first.Task;
        Assert.False(running.IsCompleted);
        server.Process.Write(ProcessEvents.Stderr, "err"u8.ToArray());
        server.Process.Write(ProcessEvents.Stdout, [0xA4, 0xFF]);
        server.Process.End(3);
        var result = await running;
        Assert.Equal(["Stdout 0", "Stderr 2", "Stdout 5"], order);
        Assert.Equal(("aä\uFFFD", "err"), (stdout, stderr));
        Assert.Equal((3, "aä\uFFFD", "err", true, false, null),
            (result.ExitCode, result.Stdout, result.Stderr, result.IsLossy, result.IsTruncated, result.StdoutBytes));
        Assert.Contains("\"encoding\":\"base64\"", server.Bodies[^1], StringComparison.Ordinal);
    }

    [Fact]
    public async Task The_result_keeps_as_much_as_without_a_stream()
    {
        await using var server = await ProcessServer.StartAsync();
        for (var i = 0; i < 11; i++)
        {
            server.Process.Write(ProcessEvents.Stdout, new byte[1024 * 1024]);
        }

        server.Process.End(0);
        using var pandora = new PandoraClient(server.Url);
        long handed = 0;
        var options = new ExecOptions { BinaryOutput = true, OnOutput = output => handed += output.Bytes.Length };
        var result = await pandora.Connect("abc").ExecAsync("code", options, Token);
        Assert.Equal((11 * 1024 * 1024, Limits.MaxOutputBytes, true), (handed, result.StdoutBytes!.Value.Length, result.IsTruncated));
    }

    [Fact]
    public async Task A_timeout_has_the_output_so_far()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Write(ProcessEvents.Stdout, "so far"u8.ToArray());
        server.Process.End(137, timedOut: true, killResult: "killed");
        using var pandora = new PandoraClient(server.Url);
        var timeout = await Assert.ThrowsAsync<ExecTimeoutException>(
            () => pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = _ => { } }, Token));
        Assert.Equal(("so far", "killed", "exec_timeout", 504), (timeout.Stdout, timeout.Command, timeout.Code, timeout.Status));
        Assert.Equal("the command reached its timeout and was killed", timeout.Message);
    }

    [Fact]
    public async Task A_command_that_a_dead_server_left_running_is_read_on()
    {
        await using var server = await ProcessServer.StartAsync();
        using var pandora = new PandoraClient(server.Url);
        var text = "";
        var running = pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = t => text += t }, Token);
        server.Process.Write(ProcessEvents.Stdout, "one "u8.ToArray());
        await UntilAsync(() => text == "one ");
        await server.RestartAsync(Task.Delay(TimeSpan.FromMilliseconds(300), TimeProvider.System, Token));
        server.Process.Write(ProcessEvents.Stdout, "two"u8.ToArray());
        server.Process.End(0);
        Assert.Equal("one two", (await running).Stdout);
        Assert.Equal("one two", text);
        Assert.Single(server.Requests, r => r.StartsWith("POST", StringComparison.Ordinal));
    }

    [Fact]
    public async Task A_command_that_a_living_server_killed_is_told_so()
    {
        await using var server = await ProcessServer.StartAsync();
        server.EndsForeground = true;
        server.CutAfter = () => server.Cuts == 0 ? 200 : long.MaxValue;
        server.Process.Write(ProcessEvents.Stdout, Encoding.UTF8.GetBytes(new string('x', 1000)));
        using var pandora = new PandoraClient(server.Url);
        var interrupted = await Assert.ThrowsAsync<ExecInterruptedException>(
            () => pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = _ => { } }, Token));
        Assert.Contains("the command was killed", interrupted.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_command_that_the_next_server_does_not_know_is_interrupted()
    {
        await using var server = await ProcessServer.StartAsync();
        server.KnowsProcess = false;
        server.CutAfter = () => 200;
        server.Process.Write(ProcessEvents.Stdout, Encoding.UTF8.GetBytes(new string('x', 1000)));
        using var pandora = new PandoraClient(server.Url);
        var interrupted = await Assert.ThrowsAsync<ExecInterruptedException>(
            () => pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = _ => { } }, Token));
        Assert.Contains("not known any more", interrupted.Message, StringComparison.Ordinal);
    }

    [Fact]
    public async Task A_command_that_was_attached_again_is_killed_when_its_caller_leaves()
    {
        await using var server = await ProcessServer.StartAsync();
        server.CutAfter = () => server.Cuts == 0 ? 200 : long.MaxValue;
        server.Process.Write(ProcessEvents.Stdout, Encoding.UTF8.GetBytes(new string('x', 1000)));
        using var pandora = new PandoraClient(server.Url);
        using var leaving = new CancellationTokenSource();
        var text = "";
        var running = pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = t => text += t }, leaving.Token);
        await UntilAsync(() => text.Length == 1000);
        await leaving.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => running);
        Assert.Equal(["KILL"], server.Process.Signals);
    }

    [Fact]
    public async Task An_older_server_answers_with_all_at_once()
    {
        await using var server = await ProcessServer.StartAsync();
        server.CollectedAnswer =
            """{"sandbox_id":"abc","exit_code":3,"stdout":"b3V0","stderr":"ZXJy","exec_ms":1,"truncated":true,"oom":true}""";
        using var pandora = new PandoraClient(server.Url);
        var text = "";
        var result = await pandora.Connect("abc").ExecAsync("code", new ExecOptions { OnStdout = t => text += t }, Token);
        Assert.Equal((3, "out", "out", "err", true, true),
            (result.ExitCode, text, result.Stdout, result.Stderr, result.IsTruncated, result.IsOutOfMemory));
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static async Task UntilAsync(Func<bool> isSo)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(30), TimeProvider.System);
        while (!isSo())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, limit.Token);
        }
    }
}
