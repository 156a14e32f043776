namespace Pandora.E2bTests;

/// <summary>E2B's SDKs against a server with host names and TLS: ports of sandboxes and signed addresses.</summary>
public sealed class HostNameTests(ServerWithNames server) : IClassFixture<ServerWithNames>
{
    public static TheoryData<string, string, string> OfSdks => ScenarioFile.In(Client.Sdks, Tier.HostNames);

    [Theory]
    [MemberData(nameof(OfSdks))]
    public Task An_SDK_passes(string client, string file, string scenario) =>
        Clients.AssertPassesAsync(server, client, file, scenario);
}
