using Pandora.TestHost.Scenarios;

namespace Pandora.McpTests;

/// <summary>A world and a server that asks for no key, as on a person's own machine. Its sandboxes are not idle for long.</summary>
public sealed class ServerWithoutKeys : ServerOfScenarios, IAsyncLifetime
{
    internal override NpmClients Clients => McpTests.Clients.Npm;

    internal override Dictionary<string, string> Environment => Programs.Environment;

    internal override Dictionary<string, string> Settings => new()
    {
        ["PANDORA_POOL_SIZE"] = "1",
        ["PANDORA_IDLE_TIMEOUT"] = "20",
        ["PANDORA_MAX_IDLE_TIMEOUT"] = "20",
    };
}
