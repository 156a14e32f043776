using Pandora.Proof.World;
using Pandora.Vmm.Linux;

namespace Pandora.HostTests;

/// <summary>What the README shows, run as it stands there.</summary>
public sealed class ExampleTests(ServerFixture fixture) : IClassFixture<ServerFixture>
{
    [Fact]
    public async Task The_quickstart_does_what_the_readme_says()
    {
        var code = await File.ReadAllTextAsync(Path.Combine(Repository.Root, "examples/Quickstart/Program.cs"));
        Assert.Contains(code[code.IndexOf("using var", StringComparison.Ordinal)..].Trim(), await File.ReadAllTextAsync(Path.Combine(Repository.Root, "README.md")));
        var output = await RunAsync(Path.Combine(Repository.Root, "artifacts/bin/Quickstart/release/Quickstart"), "http://127.0.0.1:8000");
        Assert.Matches(@"^claimed in [\d.]+ ms\nLinux (x86_64|aarch64) \([\d.]+ ms\)\nhello, exit code 3\n$", output);
    }

    [Fact]
    public async Task The_command_line_runs_passes_input_and_exit_code_and_shows_a_receipt()
    {
        var cli = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli");
        Assert.Equal("INPUT\n", await RunAsync("sh", "-c", $"printf input | {cli} run -- tr a-z A-Z"));
        Assert.Matches(@"claimed [\d.]+ ms.* · ran [\d.]+ ms · torn down [\d.]+ ms · 0 left · isolation: (QEMU|Firecracker)/", await RunAsync("sh", "-c", $"{cli} run true 2>&1"));
        Assert.Equal("7\n", await RunAsync("sh", "-c", $"{cli} run -q 'exit 7'; echo $?"));
        var id = (await RunAsync(cli, "create", "--metadata", "by=test")).Trim();
        Assert.Equal("1 -l\n", await RunAsync(cli, "exec", id, "echo", "1", "-l"));
        Assert.Equal(id + "\n", await RunAsync(cli, "ls", "--metadata", "by=test"));
        Assert.Contains("\"exit_code\":0", await RunAsync(cli, "exec", "--json", id, "true"));
        Assert.Equal(id + "\n", await RunAsync(cli, "rm", id));
        Assert.Matches("isolation   (QEMU|Firecracker)/", await RunAsync(cli, "health"));
        Assert.Equal("pandora: there is no sandbox 'nope'\n125\n", await RunAsync("sh", "-c", $"{cli} exec nope true 2>&1; echo $?"));
    }

    private async Task<string> RunAsync(string tool, params string[] arguments) =>
        await Command.RunAsync("nsenter", [$"--net={fixture.World.Host.Path}", tool, .. arguments]);
}
