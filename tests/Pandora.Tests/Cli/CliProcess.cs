using System.Diagnostics;

namespace Pandora.Tests.Cli;

/// <summary>The program as a process of its own, as a shell starts it.</summary>
internal static class CliProcess
{
    public static TimeSpan Limit { get; } = TimeSpan.FromSeconds(30);

    public static string Executable { get; } = Path.Combine(AppContext.BaseDirectory, "pandora-cli");

    /// <summary>
    /// The program in its own directory. Beside the tests it lacks the libraries that the web framework, which they use, has.
    /// </summary>
    public static string Built { get; } = Path.GetFullPath(Path.Combine(
        AppContext.BaseDirectory, "../../Pandora.Cli", new DirectoryInfo(AppContext.BaseDirectory).Name, "pandora-cli"));

    public static async Task<(int ExitCode, string Output, string Error)> RunAsync(
        string[] arguments, IReadOnlyDictionary<string, string>? environment = null)
    {
        using var process = Start(arguments, environment);
        process.StandardInput.Close();
        return await EndAsync(process);
    }

    public static async Task<(int ExitCode, string Output, string Error)> EndAsync(Process process)
    {
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        await process.WaitForExitAsync(TestContext.Current.CancellationToken).WaitAsync(Limit, TestContext.Current.CancellationToken);
        return (process.ExitCode, await output, await error);
    }

    public static Process Start(
        string[] arguments, IReadOnlyDictionary<string, string>? environment = null, string? executable = null)
    {
        // SIGINT as a terminal's shell has it: tests that run in the background ignore it, and hand that on.
        var start = new ProcessStartInfo("env",
            ["--default-signal=INT", executable ?? Executable, .. arguments])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
        };
        foreach (var name in start.Environment.Keys.Where(n => n.StartsWith("PANDORA_", StringComparison.Ordinal)).ToList())
        {
            start.Environment.Remove(name);
        }

        // A service of this host may have a key for its command line.
        start.Environment["PANDORA_DATA_DIR"] = "/nowhere";
        foreach (var (name, value) in environment ?? new Dictionary<string, string>())
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    public static async Task UntilAsync(Func<bool> isSo)
    {
        using var limit = new CancellationTokenSource(Limit, TimeProvider.System);
        while (!isSo())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System, limit.Token);
        }
    }
}
