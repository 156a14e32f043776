using System.Diagnostics;
using System.Net;
using System.Xml.Linq;
using Pandora.Client;
using Pandora.HostTests.World;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>
/// The example <c>examples/pull-request</c>, run as its README says, with pull requests that are hostile, fail, or never end.
/// </summary>
public sealed class PullRequestTests : IAsyncLifetime
{
    private const int Port = 80;
    private const string Server = "93.184.0.10:80", Install =
        "mkdir -p /opt/dependencies && cd /opt/dependencies && python3 -c 'import urllib.request; "
        + $"urllib.request.urlretrieve(\"http://{Server}/greeting.py\", \"greeting.py\")'";

    private static readonly string Example = Path.Combine(Repository.Root, "examples/pull-request");
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-pull-").FullName;
    private TestWorld _world = null!;
    private ServerProcess _server = null!;
    private FileServer _index = null!;

    private string Pull => Path.Combine(_directory, "pull");

    private string Report => Path.Combine(_directory, "report.xml");

    public async ValueTask InitializeAsync()
    {
        _world = await TestWorld.CreateAsync();
        var packages = Directory.CreateDirectory(Path.Combine(_directory, "packages")).FullName;
        await File.WriteAllTextAsync(Path.Combine(packages, "greeting.py"), "WORD = \"hello\"\n");
        await File.WriteAllTextAsync(Path.Combine(packages, "stolen"), "taken\n");
        _index = new FileServer(_world.Internet, IPAddress.Parse(TestWorld.InternetAddress), Port, packages);
        await Pandora.Linux.Command.RunAsync("cp", ["-r", Path.Combine(Example, "project"), Pull]);
        _server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
    }

    public async ValueTask DisposeAsync()
    {
        try
        {
            await _server.DisposeAsync();
        }
        finally
        {
            _index.Dispose();
            await _world.DisposeAsync();
            Directory.Delete(_directory, recursive: true);
        }
    }

    [Fact]
    public async Task A_hostile_test_gets_out_before_the_switch_and_not_after_it()
    {
        File.Copy(Path.Combine(Example, "hostile/test_hostile.py"), Path.Combine(Pull, "test_hostile.py"));
        await File.WriteAllTextAsync(Path.Combine(Pull, "keys.secret"), "a key");
        // The control: the same code in a sandbox whose egress was not taken away.
        await using (var open = await _server.Pandora.CreateAsync(new CreateSandboxOptions { Egress = "internet" }))
        {
            var control = await open.ExecAsync(
                "cat > /tmp/test_hostile.py; cd /tmp && python3 test_hostile.py",
                new ExecOptions
                {
                    Stdin = await File.ReadAllTextAsync(Path.Combine(Pull, "test_hostile.py")),
                    Environment = new Dictionary<string, string> { ["PANDORA_EXAMPLE_SERVER"] = Server },
                });
            Assert.Equal(1, control.ExitCode);
            Assert.Contains($"got out: {Server} answered b'HTTP/1.1 200'", control.Stderr);
        }

        var (exitCode, output) = await RunAsync();
        Assert.True(exitCode == 0, output);
        Assert.Contains("did not get out", output);
        Assert.Equal(
            ["test_greet", "test_no_secret_came_in", "test_nothing_gets_out"],
            XDocument.Load(Report).Root!.Elements("testcase").Select(t => t.Attribute("name")!.Value).Order(StringComparer.Ordinal));
        Assert.Empty(XDocument.Load(Report).Descendants("failure"));
        Assert.Empty(XDocument.Load(Report).Descendants("error"));
        Assert.Empty(await _server.Pandora.ListAsync());
    }

    [Fact]
    public async Task A_test_that_fails_decides_the_exit_code_and_its_report_comes_out()
    {
        await File.WriteAllTextAsync(
            Path.Combine(Pull, "test_broken.py"),
            "import unittest\n\n\nclass Broken(unittest.TestCase):\n    def test_sum(self):\n        self.assertEqual(1 + 1, 3)\n");
        var (exitCode, output) = await RunAsync();
        Assert.True(exitCode == 1, output);
        Assert.Equal("2 != 3", Assert.Single(XDocument.Load(Report).Descendants("failure")).Attribute("message")!.Value);
        Assert.Empty(await _server.Pandora.ListAsync());
    }

    [Fact]
    public async Task Tests_that_never_end_are_killed_and_the_sandbox_ends()
    {
        var (exitCode, output) = await RunAsync(
            ("PANDORA_EXAMPLE_INSTALL", "true"), ("PANDORA_EXAMPLE_TEST", "sleep 1000"), ("PANDORA_EXAMPLE_TIMEOUT", "20"));
        Assert.True(exitCode == 124, output);
        Assert.Contains("there is no report", output);
        Assert.Empty(await _server.Pandora.ListAsync());
    }

    [Fact]
    public async Task Where_the_dependencies_are_not_installed_nothing_of_the_pull_request_runs()
    {
        var (exitCode, output) = await RunAsync(("PANDORA_EXAMPLE_INSTALL", "exit 3"), ("PANDORA_EXAMPLE_TEST", "echo it ran"));
        Assert.True(exitCode == 125, output);
        Assert.DoesNotContain("it ran", output);
        Assert.False(File.Exists(Report));
        Assert.Empty(await _server.Pandora.ListAsync());
    }

    private async Task<(int ExitCode, string Output)> RunAsync(params (string Name, string Value)[] settings)
    {
        var start = new ProcessStartInfo(
            "nsenter",
            [$"--net={_world.Host.Path}", "sh", "-c", "exec \"$@\" 2>&1", "sh", Path.Combine(Example, "run.sh"),
                Path.Combine(Example, "project"), Pull, Report])
        {
            RedirectStandardOutput = true,
        };
        CallersSettings.RemoveFrom(start);
        start.Environment["PANDORA_DATA_DIR"] = _server.DataDir;
        start.Environment["PANDORA"] = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli");
        start.Environment["PANDORA_EXAMPLE_INSTALL"] = Install;
        start.Environment["PANDORA_EXAMPLE_SERVER"] = Server;
        foreach (var (name, value) in settings)
        {
            start.Environment[name] = value;
        }

        using var process = Process.Start(start)!;
        var output = await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken);
        await process.WaitForExitAsync(TestContext.Current.CancellationToken);
        return (process.ExitCode, output);
    }
}
