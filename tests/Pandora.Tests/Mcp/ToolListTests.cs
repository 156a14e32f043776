using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using ModelContextProtocol;
using ModelContextProtocol.Protocol;
using Pandora.Mcp;
using Pandora.Tests.Docs;

namespace Pandora.Tests.Mcp;

/// <summary>
/// The tools as clients see them: <c>tools.json</c> is a golden file, which <c>Pandora.Extensions.AI</c> has inside, too.
/// </summary>
public sealed class ToolListTests
{
    // Of the whole list with its frame, as a model pays for it: four characters are about a token.
    internal const int MostTokens = 8000;

    internal static readonly JsonSerializerOptions Indented = new(McpJsonUtilities.DefaultOptions)
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        NewLine = "\n",
    };

    private static IReadOnlyList<Tool> Tools => [.. McpServices.All.Select(t => t.ProtocolTool)];

    [Fact]
    public void The_list_in_the_repository_agrees_with_the_code() =>
        GeneratedPage.Check("src/Pandora.Mcp/tools.json", JsonSerializer.Serialize(Tools, Indented) + "\n");

    [Fact]
    public void The_list_is_small()
    {
        var length = Tools.Sum(t => JsonSerializer.Serialize(t, McpJsonUtilities.DefaultOptions).Length);
        Assert.InRange(length / 4, 1, MostTokens);
        Assert.InRange(Tools.Count, 1, 16);
    }

    [Fact]
    public void Every_tool_says_what_it_takes_answers_and_does()
    {
        foreach (var tool in Tools)
        {
            Assert.True(tool.Description!.Length > 30, tool.Name);
            var annotations = tool.Annotations!;
            Assert.NotNull(annotations.Title);
            Assert.All(
                new[] { annotations.ReadOnlyHint, annotations.DestructiveHint, annotations.IdempotentHint, annotations.OpenWorldHint },
                h => Assert.NotNull(h));
            Assert.False(annotations is { ReadOnlyHint: true, DestructiveHint: true }, tool.Name);
            var arguments = JsonNode.Parse(tool.InputSchema.GetRawText())!.AsObject();
            Assert.Equal("object", arguments["type"]!.GetValue<string>());
            Assert.False(arguments["additionalProperties"]!.GetValue<bool>());
            Assert.All(
                arguments["properties"]?.AsObject() ?? [], p => Assert.NotNull(p.Value!["description"]));
            var answer = JsonNode.Parse(tool.OutputSchema!.Value.GetRawText())!.AsObject();
            Assert.Equal("object", answer["type"]!.GetValue<string>());
            Assert.DoesNotContain("additionalProperties", answer.ToJsonString(), StringComparison.Ordinal);
        }
    }

    [Fact]
    public void No_schema_has_two_types_for_one_value()
    {
        foreach (var tool in Tools)
        {
            var text = new StringBuilder(tool.InputSchema.GetRawText()).Append(tool.OutputSchema!.Value.GetRawText()).ToString();
            Assert.DoesNotContain("\"type\":[", text, StringComparison.Ordinal);
            Assert.DoesNotContain("$ref", text, StringComparison.Ordinal);
        }
    }
}
