using System.Text;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Tests.Client;

/// <summary>Processes in the hands of the client, over connections that break.</summary>
public sealed class ProcessTests
{
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(60);

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Output_over_a_hundred_cut_connections_is_the_same(int seed)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        await using var server = await ProcessServer.StartAsync();
        // A part of the bytes that go over the wire, so that also the lines of events are cut.
        server.CutAfter = () => server.Cuts < 100 ? 100 + random.Next(6000) : long.MaxValue;
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.AttachAsync(ScriptedProcess.Id, Token);
        var (written, read) = (new Dictionary<string, MemoryStream>(), new Dictionary<string, MemoryStream>());
        var writing = Task.Run(() =>
        {
            for (var i = 0; i < 1000; i++)
            {
                var name = random.Next(3) == 0 ? ProcessEvents.Stderr : ProcessEvents.Stdout;
                var bytes = new byte[random.Next(1, 900)];
                random.NextBytes(bytes);
                StreamOf(written, name).Write(bytes);
                server.Process.Write(name, bytes);
            }

            server.Process.End(7);
        }, Token);
        long offset = 0;
        await foreach (var output in process.ReadOutputAsync(cancellationToken: Token))
        {
            Assert.Equal(offset, output.Offset);
            offset = output.EndOffset;
            StreamOf(read, output.Kind == ProcessOutputKind.Stderr ? ProcessEvents.Stderr : ProcessEvents.Stdout).Write(output.Bytes.Span);
        }

        await writing;
        Assert.Equal(100, server.Cuts);
        Assert.Equal(written[ProcessEvents.Stdout].ToArray(), read[ProcessEvents.Stdout].ToArray());
        Assert.Equal(written[ProcessEvents.Stderr].ToArray(), read[ProcessEvents.Stderr].ToArray());
        Assert.Equal(7, (await process.WaitAsync(Token)).ExitCode);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    public async Task Input_over_a_hundred_cut_connections_is_the_same(int seed)
    {
        TestContext.Current.TestOutputHelper?.WriteLine($"seed {seed}");
        var random = new Random(seed);
        var bytes = new byte[9 * 1024 * 1024];
        random.NextBytes(bytes);
        await using var server = await ProcessServer.StartAsync();
        server.CutAfter = () => server.Cuts < 100 ? 1 + random.Next(150_000) : long.MaxValue;
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.StartAsync("cat", new ProcessOptions { HasInput = true }, Token);
        await process.WriteInputAsync(new MemoryStream(bytes), Token);
        await process.WriteInputAsync(new byte[] { 1, 2, 3 }, Token);
        await process.CompleteInputAsync(Token);
        Assert.Equal(100, server.Cuts);
        Assert.Equal([.. bytes, 1, 2, 3], server.Process.Input);
        Assert.True(server.Process.IsInputEnded);
    }

    [Fact]
    public async Task A_terminal_over_cut_connections_loses_no_output()
    {
        var random = new Random(3);
        await using var server = await ProcessServer.StartAsync();
        server.CutAfter = () => server.Cuts < 20 ? random.Next(3000) : long.MaxValue;
        using var pandora = Connect(server);
        await using var terminal = await pandora.Connect("abc").Processes.OpenTerminalAsync("bash", null, Token);
        Assert.Equal(new TerminalSize(80, 24), server.Process.Request!.Terminal);
        server.Process.Fed = bytes =>
        {
            server.Process.Write(ProcessEvents.Stdout, bytes);
            if (bytes[^1] == '.')
            {
                server.Process.End(3);
            }
        };
        var written = new byte[100_000];
        random.NextBytes(written);
        for (var i = 0; i < written.Length; i += 1000)
        {
            server.Process.Write(ProcessEvents.Stdout, written[i..(i + 1000)]);
        }

        using var read = new MemoryStream();
        var reading = Task.Run(async () =>
        {
            await foreach (var output in terminal.ReadOutputAsync(Token))
            {
                read.Write(output.Bytes.Span);
            }
        }, Token);
        await UntilAsync(() => server.Cuts == 20);
        await terminal.WriteInputAsync(Encoding.UTF8.GetBytes("typed."), Token);
        await reading.WaitAsync(Limit, Token);
        Assert.Equal([.. written, .. Encoding.UTF8.GetBytes("typed.")], read.ToArray());
        Assert.Equal(3, terminal.Result!.ExitCode);
        await Assert.ThrowsAsync<PandoraApiException>(() => terminal.WriteInputAsync(new byte[] { 1 }, Token));
    }

    [Fact]
    public async Task Output_that_is_missing_is_told()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Write(ProcessEvents.Stdout, "before"u8.ToArray());
        server.Process.Drop(1000);
        server.Process.Write(ProcessEvents.Stderr, "after"u8.ToArray());
        server.Process.End(0);
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.AttachAsync(ScriptedProcess.Id, Token);
        var told = new List<string>();
        await foreach (var output in process.ReadOutputAsync(from: 3, cancellationToken: Token))
        {
            told.Add($"{output.Kind} {output.Offset}-{output.EndOffset} {Encoding.UTF8.GetString(output.Bytes.Span)}");
        }

        Assert.Equal(["Stdout 3-6 ore", "Dropped 6-1006 ", "Stderr 1006-1011 after"], told);
    }

    [Fact]
    public async Task A_reader_that_does_not_follow_ends_where_the_output_ends()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Write(ProcessEvents.Stdout, "so far"u8.ToArray());
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.AttachAsync(ScriptedProcess.Id, Token);
        var outputs = new List<ProcessOutput>();
        await foreach (var output in process.ReadOutputAsync(follow: false, cancellationToken: Token))
        {
            outputs.Add(output);
        }

        Assert.Equal("so far", Encoding.UTF8.GetString(Assert.Single(outputs).Bytes.Span));
        Assert.Null((await process.GetAsync(Token)).Result);
    }

    [Fact]
    public async Task Reading_and_waiting_go_on_after_a_restart_of_the_server()
    {
        await using var server = await ProcessServer.StartAsync();
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.StartAsync("code", null, Token);
        var waiting = process.WaitAsync(Token);
        server.Process.Write(ProcessEvents.Stdout, "one "u8.ToArray());
        var text = "";
        var reading = Task.Run(async () =>
        {
            await foreach (var output in process.ReadOutputAsync(cancellationToken: Token))
            {
                text += Encoding.UTF8.GetString(output.Bytes.Span);
            }
        }, Token);
        await UntilAsync(() => text == "one ");
        await server.RestartAsync(Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System, Token));
        server.FailNext(2);
        server.Process.Write(ProcessEvents.Stdout, "two"u8.ToArray());
        server.Process.End(5);
        await reading.WaitAsync(Limit, Token);
        Assert.Equal("one two", text);
        Assert.Equal(5, (await waiting.WaitAsync(Limit, Token)).ExitCode);
    }

    [Fact]
    public async Task A_server_that_stays_away_ends_the_reading_after_its_time()
    {
        await using var server = await ProcessServer.StartAsync();
        using var pandora = new PandoraClient(
            new PandoraClientOptions { Url = new Uri(server.Url), MaxReconnectTime = TimeSpan.FromSeconds(1) });
        var process = await pandora.Connect("abc").Processes.StartAsync("code", null, Token);
        var reading = Task.Run(async () =>
        {
            await foreach (var output in process.ReadOutputAsync(cancellationToken: Token))
            {
                Assert.Fail("there is no output");
            }
        }, Token);
        await UntilAsync(() => server.Requests.Count == 2);
        await server.StopAsync();
        await Assert.ThrowsAsync<ServerUnreachableException>(() => reading.WaitAsync(Limit, Token));
    }

    [Fact]
    public async Task Input_of_a_process_that_has_ended_is_refused()
    {
        await using var server = await ProcessServer.StartAsync();
        using var pandora = Connect(server);
        var process = await pandora.Connect("abc").Processes.StartAsync("true", new ProcessOptions { HasInput = true }, Token);
        server.Process.End(0);
        var refused = await Assert.ThrowsAsync<PandoraApiException>(() => process.WriteInputAsync(new byte[] { 1 }, Token));
        Assert.Equal(ErrorCodes.ProcessState.Code, refused.Code);
    }

    [Fact]
    public async Task All_that_a_process_is_asked_and_told_reaches_the_server()
    {
        await using var server = await ProcessServer.StartAsync();
        server.Process.Signalled = _ => { };
        using var pandora = Connect(server);
        var processes = pandora.Connect("abc").Processes;
        var options = new ProcessOptions
        {
            Timeout = TimeSpan.FromSeconds(90),
            WorkingDirectory = "/tmp",
            User = "user",
            HasInput = true,
            MergeOutputs = true,
            Terminal = new(100, 30),
            KeepsAlive = true,
            WaitsForReader = true,
            Tag = "mine",
            Environment = new Dictionary<string, string> { ["A"] = "1" },
        };
        var process = await processes.StartProgramAsync(["ls", "-l"], options, Token);
        Assert.Equal(
            """{"args":["ls","-l"],"timeout":90,"cwd":"/tmp","env":{"A":"1"},"user":"user","stdin":true,"merge":true,"terminal":"""
            + """{"columns":100,"rows":30},"keeps_alive":true,"wait_for_reader":true,"tag":"mine"}""",
            server.Bodies[^1]);
        await process.SignalAsync("TERM", Token);
        await process.SignalAsync("10", Token);
        await process.ResizeAsync(new(120, 40), Token);
        Assert.Equal(["TERM", "10"], server.Process.Signals);
        Assert.Equal(new TerminalSize(120, 40), server.Process.Size);
        server.Process.End(137, timedOut: true, killResult: "killed");
        var details = Assert.Single(await processes.ListAsync(Token));
        Assert.Equal(
            (process.Id, 412, "exited", true, true, true, "mine"),
            (details.Id, details.Pid, details.State, details.KeepsAlive, details.HasInput, details.HasTerminal, details.Tag));
        Assert.Equal(new ProcessResult { ExitCode = 137, IsTimedOut = true, KillResult = "killed" }, details.Result);
        Assert.Equal(details, await process.GetAsync(Token));
        server.KnowsProcess = false;
        Assert.Equal("process_not_found", (await Assert.ThrowsAsync<PandoraApiException>(() => process.GetAsync(Token))).Code);
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static PandoraClient Connect(ProcessServer server) => new(server.Url);

    private static MemoryStream StreamOf(Dictionary<string, MemoryStream> streams, string name)
    {
        if (!streams.TryGetValue(name, out var stream))
        {
            streams[name] = stream = new MemoryStream();
        }

        return stream;
    }

    private static async Task UntilAsync(Func<bool> isSo)
    {
        using var limit = new CancellationTokenSource(Limit, TimeProvider.System);
        while (!isSo())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(10), TimeProvider.System, limit.Token);
        }
    }
}
