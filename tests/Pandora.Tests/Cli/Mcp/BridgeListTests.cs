using System.Text.Json;
using ModelContextProtocol;
using Pandora.Tests.Docs;
using Pandora.Tests.Mcp;

namespace Pandora.Tests.Cli.Mcp;

/// <summary>What the bridge tells a client: <c>bridge.json</c> is a golden file.</summary>
public sealed class BridgeListTests
{
    [Fact]
    public async Task The_instructions_and_tools_in_the_repository_agree_with_the_code()
    {
        var allowed = Directory.CreateTempSubdirectory("pandora-allowed-").FullName;
        try
        {
            await using var world = await BridgeWorld.StartAsync(allowed: allowed);
            await using var direct = await McpWorld.ConnectAsync(world.Server);
            var tools = (await world.Client.ListToolsAsync()).Select(t => t.ProtocolTool).ToList();
            var length = tools.Sum(t => JsonSerializer.Serialize(t, McpJsonUtilities.DefaultOptions).Length);
            Assert.InRange(length / 4, 1, ToolListTests.MostTokens);
            Assert.Equal(16, tools.Count);
            var told = new
            {
                of_the_server = direct.ServerInstructions,
                of_the_bridge = world.Client.ServerInstructions,
                tools,
            };
            var text = JsonSerializer.Serialize(told, ToolListTests.Indented).Replace(allowed, "/allowed", StringComparison.Ordinal);
            GeneratedPage.Check("src/Pandora.Cli/Mcp/bridge.json", text + "\n");
        }
        finally
        {
            Directory.Delete(allowed);
        }
    }
}
