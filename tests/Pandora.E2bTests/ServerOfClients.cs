using Pandora.TestHost;
using Pandora.TestHost.Scenarios;

namespace Pandora.E2bTests;

/// <summary>
/// A world and a server for E2B's clients, which reach it by one address. It needs a key, as a server of several people does.
/// </summary>
public class ServerOfClients : ServerOfScenarios, IAsyncLifetime
{
    private static readonly string Key = $"e2b_{new string('0', 40)}";

    internal override NpmClients Clients => E2bTests.Clients.Npm;

    internal override Dictionary<string, string> Environment => new()
    {
        ["E2B_API_KEY"] = Key,
        ["E2B_API_URL"] = "http://127.0.0.1:8000/e2b",
        ["E2B_SANDBOX_URL"] = "http://127.0.0.1:8000/e2b",
    };

    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_API_KEYS"] = Key };

    internal override Task PrepareAsync()
    {
        World.Listen(World.Internet, TestWorld.InternetAddress, 7);
        return Task.CompletedTask;
    }
}
