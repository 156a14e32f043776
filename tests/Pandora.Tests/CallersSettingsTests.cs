using System.Diagnostics;
using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.Tests;

/// <summary>Tests, benchmarks and the processes that they start use no settings (<c>PANDORA_*</c>) of their caller.</summary>
public sealed class CallersSettingsTests
{
    private static readonly IReadOnlyDictionary<string, string> Foreign = new Dictionary<string, string>
    {
        ["PANDORA_TEMPLATE_DIR"] = "/nowhere/templates",
        ["PANDORA_DATA_DIR"] = "/nowhere",
        ["PANDORA_RUN_DIR"] = "/nowhere/run",
        ["PANDORA_LISTEN"] = "http://0.0.0.0:1",
        ["PANDORA_URL"] = "http://127.0.0.1:1",
        ["PANDORA_API_KEYS"] = "a-key-of-the-callers",
        ["PANDORA_POOL_SIZE"] = "many",
        ["PANDORA_VMM"] = "none",
        ["PANDORA_EGRESS"] = "",
        ["PANDORA_NO_SETTING"] = "1",
        ["PANDORA_TEST_SEED"] = "7",
    };

    [Fact]
    public async Task A_process_that_a_test_starts_has_no_settings_of_the_caller() =>
        Assert.All(SettingsIn(await Command.RunAsync("env", [])), l => Assert.StartsWith("PANDORA_TEST_", l));

    [Fact]
    public Task A_test_program_removes_the_settings_that_it_is_started_with() => Command.RunAsync(
        Path.Combine(AppContext.BaseDirectory, "Pandora.Tests"),
        ["--filter-method", $"*.{nameof(A_process_that_a_test_starts_has_no_settings_of_the_caller)}", "--progress", "off"],
        environment: Foreign);

    [Fact]
    public async Task A_server_that_a_helper_starts_has_no_settings_of_the_caller_or_of_the_tests()
    {
        var start = new ProcessStartInfo("env") { RedirectStandardOutput = true };
        foreach (var (name, value) in Foreign)
        {
            start.Environment[name] = value;
        }

        CallersSettings.RemoveFrom(start);
        using var process = Process.Start(start)!;
        Assert.Empty(SettingsIn(await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken)));
    }

    [Fact]
    public async Task The_scripts_remove_the_settings_and_share_one_environment()
    {
        var directory = new DirectoryInfo(AppContext.BaseDirectory);
        while (!File.Exists(Path.Combine(directory!.FullName, "Pandora.slnx")))
        {
            directory = directory.Parent;
        }

        foreach (var script in new[] { "tests/run", "bench/run" })
        {
            // The script removes the settings before it does anything else.
            var text = await File.ReadAllTextAsync(Path.Combine(directory.FullName, script), TestContext.Current.CancellationToken);
            Assert.Matches("""^#!.*\n(#.*\n)*set -euo pipefail\nroot=.*\n\. "\$root/tests/environment"\n""", text);
        }

        var shown = await Command.RunAsync("env",
        [
            "-i", $"PATH={Environment.GetEnvironmentVariable("PATH")}", .. Foreign.Select(f => $"{f.Key}={f.Value}"),
            "bash", "-euo", "pipefail", "-c", ". \"$1\"; echo \"data $data\"; env", "show",
            Path.Combine(directory.FullName, "tests/environment"),
        ]);
        Assert.Contains("data /var/lib/pandora\n", shown);
        Assert.Equal(["PANDORA_TEST_SEED=7"], SettingsIn(shown));
    }

    private static List<string> SettingsIn(string environment) =>
        [.. environment.Split('\n').Where(l => l.StartsWith("PANDORA_", StringComparison.Ordinal))];
}
