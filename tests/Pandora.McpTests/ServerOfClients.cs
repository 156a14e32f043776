using Pandora.Linux;
using Pandora.TestHost.Scenarios;

namespace Pandora.McpTests;

/// <summary>A world and a server with two projects, each with a key: that of the scenarios, and another's.</summary>
public sealed class ServerOfClients : ServerOfScenarios, IAsyncLifetime
{
    private readonly string _home = Directory.CreateTempSubdirectory("pandora-home-").FullName;
    private string _key = "", _otherKey = "";

    internal override NpmClients Clients => McpTests.Clients.Npm;

    internal override Dictionary<string, string> Environment => new(Programs.Environment)
    {
        ["PANDORA_API_KEY"] = _key,
        ["OTHER_KEY"] = _otherKey,
        // Clients write settings there.
        ["HOME"] = _home,
    };

    /// <inheritdoc/>
    public override async ValueTask InitializeAsync()
    {
        await base.InitializeAsync();
        if (Server is null)
        {
            return;
        }

        (_key, _otherKey) = (await MakeKeyAsync("ours"), await MakeKeyAsync("others"));
        // What the tests ask the server themselves.
        Server.Http.DefaultRequestHeaders.Add("X-API-Key", (await File.ReadAllTextAsync(Path.Combine(Server.DataDir, "cli.key"))).Trim());
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        try
        {
            await base.DisposeAsync();
        }
        finally
        {
            Directory.Delete(_home, recursive: true);
        }
    }

    private async Task<string> MakeKeyAsync(string project)
    {
        await RunAsync("project", "create", project);
        return (await RunAsync("key", "create", "--project", project)).Trim();
    }

    private Task<string> RunAsync(params string[] arguments) => Command.RunAsync(
        Programs.Server, arguments, environment: new Dictionary<string, string> { ["PANDORA_DATA_DIR"] = Server.DataDir });
}
