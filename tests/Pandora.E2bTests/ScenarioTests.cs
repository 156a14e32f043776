namespace Pandora.E2bTests;

/// <summary>E2B's SDKs and command line against a server with one address. Each scenario of each client is a test.</summary>
public sealed class ScenarioTests(ServerOfClients server) : IClassFixture<ServerOfClients>
{
    public static TheoryData<string, string, string> OfSdks => ScenarioFile.In(Client.Sdks, Tier.Guest, Tier.Sandboxes, Tier.Git);

    public static TheoryData<string, string, string> OfCommandLine => ScenarioFile.In([Client.CommandLine], Tier.CommandLine);

    [Theory]
    [MemberData(nameof(OfSdks))]
    public Task An_SDK_passes(string client, string file, string scenario) =>
        Clients.AssertPassesAsync(server, client, file, scenario);

    [Theory]
    [MemberData(nameof(OfCommandLine))]
    public Task The_command_line_passes(string client, string file, string scenario) =>
        Clients.AssertPassesAsync(server, client, file, scenario);

    // The tests install Python packages from no registry.
    [Fact(Skip = "the Python SDK is not installed: the tests use the registries of the distribution, NuGet and npm only")]
    public void The_Python_SDK_passes()
    {
    }
}
