using System.Diagnostics;
using Pandora.TestHost;

namespace Pandora.HostTests.World;

/// <summary>
/// Runs shell scripts where the server is: in its namespace, as a user there would, with a home of its own. <c>pandora-cli</c> is in their
/// path.
/// </summary>
internal sealed class HostShell : IDisposable
{
    private static readonly string Programs = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release");
    private readonly NetworkNamespace _place;

    public HostShell(NetworkNamespace place) => _place = place;

    /// <summary>The home of the scripts, and their first directory.</summary>
    public string Home { get; } = Directory.CreateTempSubdirectory("pandora-home-").FullName;

    /// <summary>Environment variables of the scripts.</summary>
    public Dictionary<string, string> Environment { get; } = new() { ["PANDORA_URL"] = "http://127.0.0.1:8000" };

    /// <summary>Runs a script to its end.</summary>
    public async Task<ShellResult> RunAsync(string script, TimeSpan? limit = null)
    {
        using var process = Start(script);
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        process.StandardInput.Close();
        try
        {
            await process.WaitForExitAsync(TestContext.Current.CancellationToken)
                .WaitAsync(limit ?? TimeSpan.FromMinutes(3), TimeProvider.System, TestContext.Current.CancellationToken);
        }
        catch (TimeoutException)
        {
            process.Kill(entireProcessTree: true);
            return new ShellResult(-1, await output, await error + "\n(it did not end in time)");
        }

        return new ShellResult(process.ExitCode, await output, await error);
    }

    /// <summary>Runs a script that must succeed, and returns what it prints.</summary>
    public async Task<string> OutputAsync(string script, TimeSpan? limit = null)
    {
        var result = await RunAsync(script, limit);
        Assert.True(result.ExitCode == 0, $"{script}\n{result}");
        return result.Output;
    }

    /// <summary>Starts a script that runs on. Its owner ends it.</summary>
    public Process Start(string script)
    {
        var start = new ProcessStartInfo("nsenter", [$"--net={_place.Path}", "bash", "-c", script])
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = Home,
        };
        CallersSettings.RemoveFrom(start);
        start.Environment["HOME"] = Home;
        start.Environment.Remove("XDG_CONFIG_HOME");
        start.Environment.Remove("SSH_AUTH_SOCK");
        start.Environment["PATH"] = $"{Programs}:{start.Environment["PATH"]}";
        foreach (var (name, value) in Environment)
        {
            start.Environment[name] = value;
        }

        return Process.Start(start)!;
    }

    public void Dispose() => Directory.Delete(Home, recursive: true);

    /// <summary>Whether a program is installed.</summary>
    public static bool Has(string program) => System.Environment.GetEnvironmentVariable("PATH")!.Split(':')
        .Any(d => File.Exists(Path.Combine(d, program)));
}

/// <summary>How a script ended.</summary>
internal sealed record ShellResult(int ExitCode, string Output, string Error)
{
    public override string ToString() => $"exit code {ExitCode}\n{Output}\n{Error}";
}
