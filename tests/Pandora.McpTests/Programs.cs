using Pandora.TestHost;

namespace Pandora.McpTests;

/// <summary>The programs of this repository that the tests run.</summary>
internal static class Programs
{
    public static readonly string Server = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server");

    /// <summary>What tells scenarios where the server, its command line and the list of tools are.</summary>
    public static Dictionary<string, string> Environment => new()
    {
        ["PANDORA_URL"] = "http://127.0.0.1:8000",
        ["PANDORA_CLI"] = Path.Combine(Repository.Root, "artifacts/bin/Pandora.Cli/release/pandora-cli"),
        ["TOOLS"] = Path.Combine(Repository.Root, "src/Pandora.Mcp/tools.json"),
    };
}
