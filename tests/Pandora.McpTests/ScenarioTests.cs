namespace Pandora.McpTests;

/// <summary>Clients from npm against a real server, over HTTP and stdio. Each scenario of each client is a test.</summary>
public sealed class ScenarioTests(ServerOfClients server) : IClassFixture<ServerOfClients>
{
    public static TheoryData<string, string, string> Rows => ScenarioFile.Rows(needsKey: true);

    [Theory]
    [MemberData(nameof(Rows))]
    public Task A_client_passes(string client, string file, string scenario) =>
        ScenarioFile.AssertPassesAsync(server, client, file, scenario);

    [Fact]
    public void Every_file_of_scenarios_is_run()
    {
        string[] others = ["fixture"];
        var files = Directory.GetFiles(ScenarioFile.Directory, "*.mjs").Select(f => Path.GetFileNameWithoutExtension(f));
        Assert.Equal(ScenarioFile.All.Select(f => f.Name).Concat(others).Order(), files.Order());
        Assert.All(ScenarioFile.All, f => Assert.NotEmpty(f.Script.Scenarios));
    }
}
