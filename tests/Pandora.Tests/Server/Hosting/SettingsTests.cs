using Microsoft.Extensions.Configuration;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Server.Hosting;
using Pandora.Vmm;

namespace Pandora.Tests.Hosting;

public sealed class SettingsTests
{
    private static readonly IConfiguration Nothing = new ConfigurationBuilder().Build();

    [Fact]
    public void Environment_goes_before_the_file_and_the_file_before_defaults()
    {
        var file = new ConfigurationBuilder()
            .AddInMemoryCollection(new Dictionary<string, string?> { ["Pandora:PoolSize"] = "7", ["Pandora:MaxSandboxes"] = "9" })
            .Build();
        var options = Settings.Read<EngineOptions>(file, new Dictionary<string, string> { ["PANDORA_POOL_SIZE"] = "3" });
        Assert.Equal((3, 9, 60.0), (options.PoolSize, options.MaxSandboxes, options.IdleTimeout));
    }

    [Theory]
    [InlineData("PANDORA_POOL_SIZE", "many", "a whole number")]
    [InlineData("PANDORA_POOL_SIZE", "-1", "PANDORA_POOL_SIZE")]
    [InlineData("PANDORA_POOL_SIZE", "1000", "PANDORA_POOL_SIZE")]
    [InlineData("PANDORA_IDLE_TIMEOUT", "NaN", "PANDORA_IDLE_TIMEOUT")]
    [InlineData("PANDORA_EGRESS", "some", "one of internet, none")]
    public void An_invalid_setting_is_named(string name, string value, string words) => MustName<EngineOptions>(name, value, words);

    [Fact]
    public void An_invalid_setting_of_the_VMM_is_named() => MustName<VmmOptions>("PANDORA_ACCEL", "2", "one of auto, kvm, tcg");

    private static void MustName<T>(string name, string value, string words)
        where T : new() =>
        Assert.Contains(words,
            Assert.Throws<StartupException>(() => Settings.Read<T>(Nothing, new Dictionary<string, string> { [name] = value })).Message);

    [Fact]
    public void Contradictions_and_misspellings_stop_the_start()
    {
        Assert.Contains(
            "PANDORA_MAX_IDLE_TIMEOUT",
            Assert.Throws<StartupException>(() => new EngineOptions { IdleTimeout = 700, MaxIdleTimeout = 600 }.Check()).Message);
        Assert.Contains(
            "PANDORA_MAX_IDLE_TIMEOUT", Assert.Throws<StartupException>(() => new EngineOptions { MaxIdleTimeout = 5 }.Check()).Message);
        Assert.Contains(
            "PANDORA_POOL_SIZES", Assert.Throws<StartupException>(() => new EngineOptions { PoolSizes = "web" }.Check()).Message);
        Assert.Contains(
            "PANDORA_POOLSIZE",
            Assert
                .Throws<StartupException>(() => Settings.RejectUnknown(new Dictionary<string, string> { ["PANDORA_POOLSIZE"] = "4" }))
                .Message);
    }

    [Fact]
    public void The_refusal_of_a_second_server_names_the_first()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var options = new EngineOptions { DataDir = directory, RunDir = Path.Combine(directory, "run") };
            using var first = Instance.Open(options, Path.Combine(directory, "locks"));
            Assert.Matches("^[a-z0-9]{5}$", first.Names.InstanceId);
            var refusal = Assert.Throws<StartupException>(() => Instance.Open(options, Path.Combine(directory, "locks"))).Message;
            Assert.Contains($"pid {Environment.ProcessId}", refusal);
            Assert.Contains("./pandora down", refusal);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void The_same_directory_is_the_same_instance()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var options = new EngineOptions { DataDir = directory, RunDir = Path.Combine(directory, "run") };
            string id;
            using (var first = Instance.Open(options, Path.Combine(directory, "locks")))
            {
                id = first.Names.InstanceId;
            }

            using var second = Instance.Open(options, Path.Combine(directory, "locks"));
            Assert.Equal(id, second.Names.InstanceId);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
