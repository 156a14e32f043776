using System.Text.Encodings.Web;
using System.Text.Json;
using ModelContextProtocol;
using Pandora.Tests.Docs;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>What the bridge tells a client: <c>bridge.json</c> is a golden file.</summary>
public sealed class BridgeListTests
{
    // As a model pays for it: four characters are about a token.
    private const int MostTokens = 8000;
    private static readonly JsonSerializerOptions Indented = new(McpJsonUtilities.DefaultOptions)
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NewLine = "\n",
    };

    [Fact]
    public async Task The_instructions_and_tools_in_the_repository_agree_with_the_code()
    {
        var allowed = Directory.CreateTempSubdirectory("pandora-allowed-").FullName;
        try
        {
            await using var world = await BridgeWorld.StartAsync(allowed: allowed);
            await using var direct = await Tests.Mcp.McpWorld.ConnectAsync(world.Server);
            var tools = (await world.Client.ListToolsAsync()).Select(t => t.ProtocolTool).ToList();
            Assert.InRange(tools.Sum(t => JsonSerializer.Serialize(t, McpJsonUtilities.DefaultOptions).Length) / 4, 1, MostTokens);
            Assert.Equal(16, tools.Count);
            var told = new
            {
                of_the_server = direct.ServerInstructions,
                of_the_bridge = world.Client.ServerInstructions,
                tools,
            };
            var text = JsonSerializer.Serialize(told, Indented).Replace(allowed, "/allowed", StringComparison.Ordinal);
            GeneratedPage.Check("src/Pandora.Cli/Mcp/bridge.json", text + "\n");
        }
        finally
        {
            Directory.Delete(allowed);
        }
    }
}
