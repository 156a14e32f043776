using System.Globalization;
using System.Text;
using Pandora.Client;

namespace Pandora.HostTests;

/// <summary>Much output and many commands, and what they cost the server.</summary>
public sealed class LoadedGuestTests(ServerFixture fixture) : IClassFixture<ServerFixture>, IAsyncLifetime
{
    private Sandbox _sandbox = null!;

    public async ValueTask InitializeAsync()
    {
        _sandbox = await fixture.Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        await _sandbox.ExecAsync("true");
    }

    public ValueTask DisposeAsync() => _sandbox.DisposeAsync();

    [Fact]
    public async Task A_gibibyte_of_output_does_not_fill_the_servers_memory()
    {
        var before = Status("VmRSS");
        var most = 0L;
        var running = _sandbox.ExecAsync(
            "head -c 1073741824 /dev/zero; echo end >&2", new ExecOptions { Timeout = TimeSpan.FromSeconds(1500) });
        while (await Task.WhenAny(running, Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System)) != running)
        {
            most = Math.Max(most, Status("VmRSS"));
        }

        var result = await running;
        Assert.Equal((0, true, "end\n"), (result.ExitCode, result.IsTruncated, result.Stderr));
        // The 10 MiB of the result, and as text again while they are written.
        Assert.True(most - before < 100 * 1024, $"{(most - before) / 1024} MiB more than {before / 1024} MiB");
    }

    [Fact]
    public async Task A_hundred_and_sixty_commands_run_at_once_and_need_no_threads()
    {
        // Each command waits for the end of this process.
        var gate = await _sandbox.Processes.StartAsync("echo $$; exec sleep 1000");
        var pid = await FirstLineAsync(gate);
        var before = Status("Threads");
        var most = before;
        const int Count = 160;
        var running = Task.WhenAll(Enumerable.Range(0, Count).Select(i =>
            _sandbox.ExecAsync($"echo {i}; exec tail --pid={pid} -f /dev/null", new ExecOptions { Timeout = TimeSpan.FromSeconds(900) })));
        await using (var other = await fixture.Server.Pandora.CreateAsync())
        {
            Assert.Equal("fine\n", (await other.ExecAsync("echo fine")).Stdout);
        }

        await ProcessTests.UntilAsync(async () =>
            (await _sandbox.Processes.ListAsync()).Count(p => p.IsForeground && p.OutputEnd > 0) == Count);
        Assert.False(running.IsCompleted);
        for (var i = 0; i < 20; i++)
        {
            most = Math.Max(most, Status("Threads"));
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }

        await gate.SignalAsync("KILL");
        Assert.Equal(Enumerable.Range(0, Count).Select(i => $"{i}\n"), (await running).Select(r => r.Stdout));
        Assert.True(most - before < 40, $"{before} threads, and {most} with 160 commands");
    }

    private static async Task<string> FirstLineAsync(SandboxProcess process)
    {
        await foreach (var output in process.ReadOutputAsync())
        {
            return Encoding.ASCII.GetString(output.Bytes.Span).Trim();
        }

        throw new InvalidOperationException("the process wrote nothing");
    }

    private long Status(string name) => long.Parse(
        File.ReadLines($"/proc/{fixture.Server.Pid}/status").First(l => l.StartsWith(name, StringComparison.Ordinal))
            .Split(':', 2)[1].Replace("kB", "", StringComparison.Ordinal).Trim(),
        CultureInfo.InvariantCulture);
}
