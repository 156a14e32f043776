using Pandora.TestHost;
using Pandora.TestHost.Scenarios;

namespace Pandora.McpTests;

/// <summary>A file of scenarios: <c>scenarios/NAME.mjs</c>, where each exported function is a scenario.</summary>
/// <param name="Name">Name of the file without its ending.</param>
/// <param name="Clients">The clients that run it.</param>
/// <param name="NeedsKey">Whether its server has keys.</param>
internal sealed record ScenarioFile(string Name, IReadOnlyList<string> Clients, bool NeedsKey = true)
{
    public static readonly IReadOnlyList<ScenarioFile> All =
    [
        new("tools", McpTests.Clients.All),
        new("calls", McpTests.Clients.All),
        new("jobs", McpTests.Clients.Newest),
        new("hostile", McpTests.Clients.OneOfEachWay),
        new("guest", McpTests.Clients.OneOfEachWay),
        new("sessions", McpTests.Clients.Newest),
        new("access", McpTests.Clients.Newest),
        new("inspector", McpTests.Clients.Newest),
        new("bridge", McpTests.Clients.OverStdio),
        new("transfers", McpTests.Clients.OverStdio),
        new("keyless", McpTests.Clients.Newest, NeedsKey: false),
    ];

    public static string Directory { get; } = Path.Combine(Repository.Root, "tests/Pandora.McpTests/scenarios");

    public ScenarioScript Script => new(Path.Combine(Directory, $"{Name}.mjs"));

    /// <summary>Clients, files and scenarios, for a theory.</summary>
    /// <param name="needsKey">Whether their server has keys.</param>
    public static TheoryData<string, string, string> Rows(bool needsKey)
    {
        var rows = new TheoryData<string, string, string>();
        foreach (var file in All.Where(f => f.NeedsKey == needsKey))
        {
            foreach (var client in file.Clients)
            {
                foreach (var scenario in file.Script.Scenarios)
                {
                    rows.Add(client, file.Name, scenario);
                }
            }
        }

        return rows;
    }

    /// <summary>Fails when a scenario fails; skips it where the clients cannot be run.</summary>
    public static Task AssertPassesAsync(ServerOfScenarios server, string client, string file, string scenario)
    {
        Assert.SkipWhen(server.Clients.Missing is not null, server.Clients.Missing ?? "");
        return McpTests.Clients.Runs.RequirePassAsync(server, client, All.Single(f => f.Name == file).Script, scenario);
    }
}
