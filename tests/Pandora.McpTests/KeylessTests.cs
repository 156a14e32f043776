using System.Text.RegularExpressions;
using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.McpTests;

/// <summary>A server without keys: the conformance suite, which can send none, and what protects such a server.</summary>
public sealed class KeylessTests(ServerWithoutKeys server) : IClassFixture<ServerWithoutKeys>
{
    // The scenarios of the suite for any server. All others call tools, resources and prompts with fixed names.
    private static readonly string[] ForAnybody =
    [
        "dns-rebinding-protection", "logging-set-level", "ping", "server-initialize", "tools-list",
    ];

    public static TheoryData<string, string, string> Rows => ScenarioFile.Rows(needsKey: false);

    [Theory]
    [MemberData(nameof(Rows))]
    public Task A_client_passes(string client, string file, string scenario) =>
        ScenarioFile.AssertPassesAsync(server, client, file, scenario);

    [Fact]
    public async Task The_conformance_suite_passes_but_for_what_is_listed()
    {
        Assert.SkipWhen(Clients.Npm.Missing is not null, Clients.Npm.Missing ?? "");
        var results = Directory.CreateTempSubdirectory("pandora-conformance-").FullName;
        try
        {
            var program = Path.Combine(Clients.Npm.Directory, "node_modules/@modelcontextprotocol/conformance/dist/index.js");
            var list = Path.Combine(Repository.Root, "tests/Pandora.McpTests/expected-failures.yml");
            // Its exit code is not 0 when a scenario fails that is not in the list, and when one passes that is.
            await Command.RunAsync(
                "nsenter",
                [
                    $"--net={server.World.Host.Path}", "sh", "-c", "\"$@\" >&2", "sh", "node", program, "server", "--url",
                    "http://127.0.0.1:8000/mcp", "--suite", "all", "--expected-failures", list, "-o", results,
                ],
                cancellationToken: TestContext.Current.CancellationToken);
            var expected = (await File.ReadAllLinesAsync(list))
                .Where(l => l.StartsWith("  - ", StringComparison.Ordinal)).Select(l => l[4..]).ToList();
            // A directory for each scenario, with the time of the run after its name.
            var run = Directory.GetDirectories(results).Select(d => NameOf(Path.GetFileName(d))).ToList();
            Assert.Equal(ForAnybody, run.Except(expected).Order(StringComparer.Ordinal));
            Assert.Equal(expected.Order(StringComparer.Ordinal), run.Except(ForAnybody).Order(StringComparer.Ordinal));
        }
        finally
        {
            Directory.Delete(results, recursive: true);
        }
    }

    private static string NameOf(string directory) => Regex.Match(directory, @"^server-(.*)-\d{4}-\d\d-\d\dT").Groups[1].Value;
}
