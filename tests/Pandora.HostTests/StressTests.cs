using System.Diagnostics;
using System.Text.Json;
using Pandora.TestHost;
using Pandora.Load;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary><c>pandora stress</c> as a user runs it, on the real server.</summary>
public sealed class StressTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task Measures_the_requested_load_and_compares_it_with_objectives_and_an_earlier_run()
    {
        await fixture.Server.WaitForWarmAsync(2);
        var first = await RunAsync("-n", "4", "-p", "2", "-e", "2", "--json", "--slo", "errors<=0%", "--slo", "acquire.max<60s");
        Assert.Equal((0, first.Error), (first.ExitCode, first.Error));
        var report = JsonSerializer.Deserialize(first.Output, LoadJson.Default.LoadReport)!;
        Assert.Equal((4, 0, 8L), (report.Succeeded, report.Failed, report.Execs));
        Assert.Equal(new LeakReport(0, 0, 0, 0), report.Leaks);
        Assert.All(report.Slo, s => Assert.True(s.IsMet));
        Assert.Equal(4, first.Error.Split('\n').Count(l => l.StartsWith('[')));
        foreach (var (name, sides) in report.Latency)
        {
            Assert.True(
                name == "total" || sides.Server!.P50 <= sides.Client!.P50 * 1.05, $"{name}: the server measured more than the client");
        }

        var file = Path.Combine(fixture.Server.DataDir, "baseline.json");
        await File.WriteAllTextAsync(file, first.Output);
        var second = await RunAsync("-n", "2", "-p", "1", "-e", "2", "-q", "--baseline", file, "--slo", "throughput>1000");
        Assert.Equal(1, second.ExitCode);
        Assert.Contains("MISSED", second.Output);
        Assert.Contains("p50 / baseline", second.Output);
        Assert.DoesNotContain("[   1]", second.Output);
        File.Delete(file);
        await AssertNoThreadsRemainAsync();
    }

    // Each command uses two threads, which must end with the command. A short run would not show threads that stay.
    private async Task AssertNoThreadsRemainAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while (
            Directory
                .GetDirectories($"/proc/{fixture.Server.Pid}/task")
                .Count(t => File.ReadAllText(Path.Combine(t, "comm")).StartsWith(".NET Long Runni", StringComparison.Ordinal)) > 2)
        {
            Assert.False(limit.IsCancellationRequested, "threads of ended commands remain");
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
        }
    }

    [Fact]
    public async Task Exits_with_1_and_the_reason_when_nothing_succeeded()
    {
        var (exitCode, output, _) = await RunAsync("-n", "1", "-e", "1", "--code", "exit 7");
        Assert.Equal(1, exitCode);
        Assert.Contains("1 × exec.exit_code", output);
    }

    [Fact]
    public async Task An_interrupted_run_deletes_its_sandboxes_and_reports_what_it_measured()
    {
        var running = Start("--burst", "2", "-e", "1", "--code", "sleep 100", "--timeout", "200");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        while ((await fixture.Server.Pandora.ListAsync(cancellationToken: limit.Token)).Count(s => s.ExecCount == 1) < 2)
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }

        using (var handle = ProcessHandle.TryOpen(running.Process.Id))
        {
            handle!.Kill(2);
        }

        var (exitCode, output, _) = await EndAsync(running);
        Assert.Equal(130, exitCode);
        Assert.Contains("interrupted", output);
        Assert.Contains("remaining on the server: 0 sandboxes", output);
        Assert.Empty(await fixture.Server.Pandora.ListAsync());
    }

    [Theory]
    [InlineData("--requests must be", "-n", "0")]
    [InlineData("is no objective", "--slo", "acquire")]
    [InlineData("is no report", "--baseline", "/etc/hostname")]
    public async Task An_invalid_option_is_refused_in_one_sentence(string words, params string[] arguments)
    {
        var (exitCode, _, error) = await RunAsync(arguments);
        Assert.Equal(125, exitCode);
        Assert.Contains(words, Assert.Single(error.Split('\n', StringSplitOptions.RemoveEmptyEntries)));
    }

    private async Task<(int ExitCode, string Output, string Error)> RunAsync(params string[] arguments) => await EndAsync(Start(arguments));

    private (Process Process, Task<string> Output, Task<string> Error) Start(params string[] arguments)
    {
        var client = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli");
        var process = Process.Start(
            new ProcessStartInfo(
                "nsenter",
                [$"--net={fixture.World.Host.Path}", client, "stress", "--url", "http://127.0.0.1:8000", .. arguments]
            )
            {
                RedirectStandardOutput = true,
                RedirectStandardError = true,
                Environment = { ["PANDORA_DATA_DIR"] = fixture.Server.DataDir },
            })!;
        return (process, process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
    }

    private static async Task<(int ExitCode, string Output, string Error)> EndAsync(
        (Process Process, Task<string> Output, Task<string> Error) running)
    {
        using (running.Process)
        {
            await running.Process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(300));
            return (running.Process.ExitCode, await running.Output, await running.Error);
        }
    }
}
