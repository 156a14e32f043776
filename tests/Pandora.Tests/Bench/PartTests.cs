using System.Diagnostics;

namespace Pandora.Tests.Bench;

public sealed class PartTests
{
    [Theory]
    [InlineData("--only driver",
        "'driver' is not measured on qemu, because it measures the calls of Firecracker's API: use --vmm firecracker")]
    [InlineData("--vmm firecracker --only walls",
        "'walls' is not measured on firecracker, because it does not depend on the VMM: use --vmm qemu")]
    [InlineData("--only footprints", "footprint")]
    [InlineData("--vmm xen", "firecracker")]
    public async Task A_part_that_cannot_be_measured_is_an_error_that_says_why(string arguments, string words)
    {
        var (exitCode, _, error) = await RunAsync(arguments);
        Assert.Equal(1, exitCode);
        Assert.Contains(words, error);
    }

    [Theory]
    [InlineData(
        "", "pool exec growth boot snapshot agent streams files ports e2b mcp footprint looking overload fairness keys adoption walls")]
    [InlineData("--vmm firecracker", "pool exec growth boot snapshot agent files footprint adoption driver")]
    [InlineData("--vmm firecracker --only footprint", "footprint")]
    [InlineData("--vmm firecracker --only adoption", "adoption")]
    [InlineData("--only aged", "aged")]
    public async Task A_run_measures_the_parts_of_its_VMM(string arguments, string parts)
    {
        var (exitCode, output, error) = await RunAsync($"{arguments} --list");
        Assert.Equal((0, ""), (exitCode, error));
        Assert.Equal(parts.Split(' '), output.TrimEnd().Split('\n'));
    }

    private static async Task<(int ExitCode, string Output, string Error)> RunAsync(string arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(
            Path.Combine(AppContext.BaseDirectory, "pandora-bench"), arguments.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        })!;
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, await output, await error);
    }
}
