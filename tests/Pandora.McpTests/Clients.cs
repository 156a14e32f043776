using Pandora.TestHost.Scenarios;

namespace Pandora.McpTests;

/// <summary>Clients of MCP, and how they reach the server.</summary>
internal static class Clients
{
    /// <summary>The client of the newest revision, and the one before it, which begins with <c>initialize</c>.</summary>
    public const string NewOverHttp = "client over http", NewOverStdio = "client over stdio", OldOverHttp = "sdk over http",
        OldOverStdio = "sdk over stdio";

    public static readonly IReadOnlyList<string> All = [NewOverHttp, NewOverStdio, OldOverHttp, OldOverStdio];

    public static readonly IReadOnlyList<string> Newest = [NewOverHttp], OverStdio = [NewOverStdio, OldOverStdio],
        OneOfEachWay = [NewOverHttp, OldOverStdio];

    public static NpmClients Npm { get; } = new("MCP", "mcp-clients");

    /// <summary>The runs of their scenarios.</summary>
    public static ScenarioRuns Runs { get; } = new();
}
