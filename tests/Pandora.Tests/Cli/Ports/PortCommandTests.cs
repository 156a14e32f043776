using System.Text.Json;
using Pandora.Cli;
using Pandora.Cli.Ports;
using Pandora.Tests.Client.Ports;
using static Pandora.Tests.Cli.CliProcess;

namespace Pandora.Tests.Cli.Ports;

/// <summary><c>ports</c>, <c>link</c>, <c>public</c>, and the options of <c>create</c>, as a shell sees them.</summary>
public sealed class PortCommandTests : IAsyncLifetime
{
    private PortsServer _server = null!;

    public async ValueTask InitializeAsync() => _server = await PortsServer.StartAsync();

    public async ValueTask DisposeAsync() => await _server.DisposeAsync();

    [Fact]
    public async Task Ports_are_listed_for_scripts_and_as_JSON()
    {
        Assert.Equal((0, "22\n3000\n", ""), await RunAsync(["--url", _server.Url, "ports", PortsServer.Id]));
        var (exitCode, output, _) = await RunAsync(["--url", _server.Url, "ports", PortsServer.Id, "--json"]);
        Assert.Equal(0, exitCode);
        var first = JsonDocument.Parse(output).RootElement[0];
        Assert.Equal((22, 7, false), (
            first.GetProperty("port").GetInt32(), first.GetProperty("pid").GetInt32(), first.GetProperty("public").GetBoolean()));
    }

    [Fact]
    public async Task A_link_and_a_public_port_are_printed_as_addresses()
    {
        var address = $"http://3000-{PortsServer.Id}.localhost:{new Uri(_server.Url).Port}/";
        Assert.Equal(
            (0, $"{address}?pandora_link=x\n", ""),
            await RunAsync(["--url", _server.Url, "link", PortsServer.Id, "3000", "--expires", "15m"]));
        Assert.Equal((0, $"{address}\n", ""), await RunAsync(["--url", _server.Url, "public", PortsServer.Id, "3000"]));
        Assert.Equal((0, $"{address}\n", ""), await RunAsync(["--url", _server.Url, "public", PortsServer.Id, "3000", "--off"]));
        Assert.Equal(
            ["""links {"expires_in":900}""", """3000 {"public":true}""", """3000 {"public":false}"""],
            _server.Requests.Select(r => r[(r.LastIndexOf('/') + 1)..]));
    }

    [Theory]
    [InlineData("90", 90.0)]
    [InlineData("90s", 90.0)]
    [InlineData("1.5m", 90.0)]
    [InlineData("1h", 3600.0)]
    [InlineData("7d", 604800.0)]
    [InlineData("0", null)]
    [InlineData("-1h", null)]
    [InlineData("h", null)]
    [InlineData("", null)]
    [InlineData("1e300", null)]
    [InlineData("soon", null)]
    public void A_time_is_a_number_with_its_unit(string text, double? seconds)
    {
        if (seconds is null)
        {
            Assert.Throws<UsageException>(() => Duration.Parse("--expires", text));
        }
        else
        {
            Assert.Equal(seconds, Duration.Parse("--expires", text).TotalSeconds);
        }
    }

    [Theory]
    [InlineData("8080:3000", 8080, 3000)]
    [InlineData("3000", 3000, 3000)]
    [InlineData("0:3000", 0, 3000)]
    [InlineData("0", 0, 0)]
    [InlineData("3000:0", 0, 0)]
    [InlineData("65536", 0, 0)]
    [InlineData("1:2:3", 0, 0)]
    [InlineData("a:3000", 0, 0)]
    [InlineData(":3000", 0, 0)]
    public void A_forward_is_one_port_or_two(string text, int local, int port)
    {
        if (port == 0)
        {
            Assert.Throws<UsageException>(() => PortForward.Parse(text));
        }
        else
        {
            Assert.Equal(new PortForward(local, port), PortForward.Parse(text));
        }
    }

    [Theory]
    [InlineData("'0' is no port", "link", "abc", "0")]
    [InlineData("'http' is no port", "public", "abc", "http")]
    [InlineData("--nope", "ports", "--nope")]
    [InlineData("neither a port nor", "forward", "abc", "70000")]
    [InlineData("--stdio takes one port", "forward", "abc", "--stdio", "1", "2")]
    [InlineData("no IP address", "forward", "abc", "3000", "--address", "example.com")]
    [InlineData("ssh has no --json", "ssh", "abc", "--json")]
    [InlineData("is no id of a sandbox", "ssh-config", "../x")]
    [InlineData("is no name of a user", "ssh-config", "abc", "-l", "a b")]
    public async Task Command_lines_that_make_no_sense_are_refused(string words, params string[] arguments)
    {
        var (exitCode, output, error) = await RunAsync([.. arguments]);
        Assert.Equal((125, ""), (exitCode, output));
        Assert.Contains(words, error, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("ports")]
    [InlineData("link")]
    [InlineData("public")]
    [InlineData("forward")]
    [InlineData("ssh")]
    [InlineData("ssh-config")]
    public async Task Each_command_has_help_with_examples_that_the_entry_script_knows(string command)
    {
        var (exitCode, help, _) = await RunAsync([command, "--help"]);
        Assert.Equal(0, exitCode);
        Assert.Contains($"Examples:\n  ./pandora {command} ", help, StringComparison.Ordinal);
        Assert.Matches($@"(?m)^    (.* \| )?{command}( \| .*)?\) failed=125; build; exec ""\$cli""", Repository.Read("pandora"));
    }

    [Fact]
    public async Task A_sandbox_is_created_with_public_ports_and_the_keys_of_files()
    {
        var file = Path.GetTempFileName();
        try
        {
            await File.WriteAllTextAsync(
                file, "# mine\nssh-ed25519 AAAA me\n\nssh-rsa BBBB\r\n", TestContext.Current.CancellationToken);
            var (exitCode, output, _) = await RunAsync(
                ["--url", _server.Url, "create", "--public-port", "80", "--public-port", "3000", "--ssh-key", file]);
            Assert.Equal((0, $"{PortsServer.Id}\n"), (exitCode, output));
            Assert.Contains(
                """POST /sandboxes {"metadata":{},"public_ports":[80,3000],"ssh_keys":["ssh-ed25519 AAAA me","ssh-rsa BBBB"]}""",
                _server.Requests);

            await File.WriteAllTextAsync(
                file, "-----BEGIN OPENSSH PRIVATE KEY-----\n", TestContext.Current.CancellationToken);
            (exitCode, _, var error) = await RunAsync(["--url", _server.Url, "run", "--ssh-key", file, "true"]);
            Assert.Equal(125, exitCode);
            Assert.Contains("is a private key", error, StringComparison.Ordinal);
            Assert.Single(_server.Requests);
        }
        finally
        {
            File.Delete(file);
        }
    }
}
