using System.Text.Json;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary><c>doctor</c> in the test world, on a host without problems and on hosts with one.</summary>
public sealed class DoctorTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Doctor_finds_no_problem_on_a_complete_host_and_leaves_its_rules_unchanged()
    {
        var before = await TestWorld.ListRulesAsync(_world.Host.Path);
        var (exitCode, findings) = await RunDoctorAsync();
        Assert.Equal(0, exitCode);
        Assert.DoesNotContain("problem", findings.Values.Select(f => f.GetProperty("standing").GetString()));
        Assert.Equal(
            [
                "root",
                "VMM",
                "KVM",
                "Firecracker",
                "QEMU",
                "cgroups",
                "tap devices",
                "programs",
                "firewall",
                "network",
                "template",
                "run directory",
                "disk",
                "memory",
            ],
            findings.Keys);
        Assert.All(
            findings.Values,
            f => Assert.True(f.GetProperty("standing").GetString() == "ok" || f.TryGetProperty("remedy", out _), f.ToString()));
        Assert.Equal(before, await TestWorld.ListRulesAsync(_world.Host.Path));
    }

    [Theory]
    [InlineData("network", "PANDORA_NETWORK=93.183.0.0/24", "overlaps a route")]
    [InlineData("VMM", "PANDORA_VMM=firecracker PANDORA_ACCEL=tcg", "contradict each other")]
    [InlineData("memory", "PANDORA_POOL_SIZE=256", "the warm pool alone")]
    public async Task A_condition_that_keeps_Pandora_from_running_is_a_problem_with_a_remedy(string name, string settings, string words)
    {
        Assert.SkipWhen(
            name == "memory" && GC.GetGCMemoryInfo().TotalAvailableMemoryBytes > 60L << 30, "this machine has room for such a pool");
        var (exitCode, findings) = await RunDoctorAsync(settings);
        Assert.Equal(1, exitCode);
        Assert.Equal("problem", findings[name].GetProperty("standing").GetString());
        Assert.Contains(words, findings[name].GetProperty("detail").GetString());
        Assert.NotEmpty(findings[name].GetProperty("remedy").GetString()!);
    }

    private async Task<(int ExitCode, Dictionary<string, JsonElement> Findings)> RunDoctorAsync(string settings = "")
    {
        var server = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server");
        var output = await Command.RunAsync(
            "nsenter",
            [
                $"--net={_world.Host.Path}",
                "env",
                "-i",
                $"PATH={Environment.GetEnvironmentVariable("PATH")}",
                $"DOTNET_ROOT={Environment.GetEnvironmentVariable("DOTNET_ROOT")}",
                $"PANDORA_TEMPLATE_DIR={Repository.Templates}",
                .. settings.Split(' ', StringSplitOptions.RemoveEmptyEntries),
                "sh",
                "-c",
                $"{server} doctor --json; echo $?",
            ]);
        var end = output.TrimEnd().LastIndexOf('\n');
        return (
            int.Parse(output[end..]),
            JsonDocument.Parse(output[..end]).RootElement.EnumerateArray().ToDictionary(f => f.GetProperty("name").GetString()!));
    }
}
