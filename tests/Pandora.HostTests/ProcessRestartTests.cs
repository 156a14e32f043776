using System.Text;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Processes whose server dies: they run on, and their clients miss no byte.</summary>
public sealed class ProcessRestartTests : IAsyncLifetime
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(180);
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Twenty_streams_miss_no_byte_when_the_server_is_killed()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        // Without processes of its own: each costs tens of milliseconds under emulation.
        const string Numbers = "exec 9<> <(:); for ((i = 0; i < 60; i++)); do echo $i; echo e$i >&2; read -t 0.3 -u 9; done; exit 0";
        var expected = string.Concat(Enumerable.Range(0, 60).Select(i => $"{i}\ne{i}\n"));
        var readings = new List<Task<string>>();
        for (var i = 0; i < 18; i++)
        {
            var process = await sandbox.Processes.StartAsync(Numbers, new ProcessOptions { WaitsForReader = i % 2 == 0 });
            readings.Add(TextAsync(process));
        }

        // Commands of exec, whose clients attach again by the id.
        for (var i = 0; i < 2; i++)
        {
            var text = new StringBuilder();
            var options = new ExecOptions { OnOutput = o => text.Append(Encoding.UTF8.GetString(o.Bytes.Span)), Timeout = Patience };
            readings.Add(sandbox.ExecAsync(Numbers, options).ContinueWith(
                t => $"{t.Result.ExitCode} {text}", TaskScheduler.Default));
        }

        await ProcessTests.UntilAsync(async () =>
            (await sandbox.Processes.ListAsync()) is { Count: 20 } all && all.All(p => p.OutputEnd > 20));
        await server.KillAsync();
        await Task.Delay(TimeSpan.FromSeconds(1), TimeProvider.System);
        await server.StartAsync();

        var texts = await Task.WhenAll(readings).WaitAsync(Patience);
        Assert.All(texts[..18], t => Assert.Equal(expected, t));
        Assert.All(texts[18..], t => Assert.Equal("0 " + expected, t));
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task A_command_that_nobody_attaches_to_again_is_killed_after_a_minute_and_a_background_process_is_not()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(30) });
        var lost = sandbox.ExecAsync("echo lost; exec sleep 1111", new ExecOptions { Timeout = Patience });
        var found = sandbox.ExecAsync("echo found; exec sleep 2222", new ExecOptions { Timeout = Patience });
        var background = await sandbox.Processes.StartAsync("exec sleep 3333", new ProcessOptions { KeepsAlive = true });
        await ProcessTests.UntilAsync(async () => (await sandbox.Processes.ListAsync()) is { Count: 3 } all
            && all.Where(p => p.IsForeground).All(p => p.OutputEnd > 0));
        await server.KillAsync();
        await Assert.ThrowsAsync<ExecInterruptedException>(() => lost);
        await Assert.ThrowsAsync<ExecInterruptedException>(() => found);
        await server.StartAsync();

        var all = await sandbox.Processes.ListAsync();
        Assert.All(all, p => Assert.Null(p.Result));
        var again = await sandbox.Processes.AttachAsync(all.Single(p => p.Command.StartsWith("echo found", StringComparison.Ordinal)).Id);
        using var reading = new CancellationTokenSource();
        await foreach (var output in again.ReadOutputAsync(cancellationToken: reading.Token))
        {
            Assert.Equal("found\n", Encoding.UTF8.GetString(output.Bytes.Span));
            break;
        }

        await ProcessTests.UntilAsync(async () =>
            (await sandbox.Processes.ListAsync()).Single(p => p.Command.StartsWith("echo lost", StringComparison.Ordinal))
                .Result is not null);
        Assert.Equal("2222\n3333\n", (await sandbox.ExecAsync("pgrep -ax sleep | awk '{ print $3 }' | sort")).Stdout);
        Assert.Null((await again.GetAsync()).Result);
        // The background process keeps the sandbox, whose idle time has passed meanwhile.
        Assert.Null((await background.GetAsync()).Result);
        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    [Fact]
    public async Task A_restart_cuts_streams_and_ends_no_process()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var sandbox = await server.Pandora.CreateAsync();
        const int Count = 8 * 1024 * 1024;
        var process = await sandbox.Processes.StartAsync(
            ProcessTests.Source(Count), new ProcessOptions { WaitsForReader = true, KeepsAlive = true });
        var terminal = await sandbox.Processes.StartAsync(
            "cat", new ProcessOptions { Terminal = new TerminalDimensions(80, 24), KeepsAlive = true });
        var hash = ProcessTests.HashAsync(process);
        // SIGUSR1: './pandora restart'.
        server.Signal(10);
        await server.WaitForEndAsync();
        await server.StartAsync();
        Assert.Equal(ProcessTests.HashOf(Count), await hash.WaitAsync(Patience));
        await terminal.WriteInputAsync("still here\n"u8.ToArray());
        await foreach (var output in terminal.ReadOutputAsync())
        {
            Assert.StartsWith("still here", Encoding.UTF8.GetString(output.Bytes.Span));
            break;
        }

        Assert.Equal(0, (await sandbox.EndAsync()).Remaining);
    }

    private static async Task<string> TextAsync(SandboxProcess process)
    {
        var (text, next) = (new StringBuilder(), 0L);
        await foreach (var output in process.ReadOutputAsync())
        {
            Assert.Equal((next, false), (output.Offset, output.Kind == ProcessOutputKind.Dropped));
            text.Append(Encoding.UTF8.GetString(output.Bytes.Span));
            next = output.EndOffset;
        }

        return text.ToString();
    }
}
