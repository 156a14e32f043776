using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pandora.Extensions.AI;

/// <summary>A tool of the server, as an agent sees it that has one sandbox: without the argument that names the sandbox.</summary>
internal sealed class SandboxTool
{
    /// <summary>The argument that names the sandbox.</summary>
    public const string Sandbox = "sandbox";

    /// <summary>The argument that names a process, and with it the sandbox.</summary>
    public const string Process = "process";

    // These are the program's: it made the sandbox.
    private static readonly string[] LeftOut = ["sandbox_create", "sandbox_list", "sandbox_end"];

    private SandboxTool(JsonObject tool)
    {
        Name = tool["name"]!.GetValue<string>();
        Description = tool["description"]!.GetValue<string>();
        var schema = tool["inputSchema"]!.DeepClone().AsObject();
        var properties = schema["properties"]!.AsObject();
        NamesSandbox = properties.Remove(Sandbox);
        if (schema["required"] is JsonArray required)
        {
            required.RemoveAll(n => n!.GetValue<string>() == Sandbox);
        }

        Types = properties.ToDictionary(p => p.Key, p => p.Value!["type"]!.GetValue<string>());
        Schema = ElementOf(schema);
    }

    /// <summary>The tools that work on a sandbox.</summary>
    public static IReadOnlyList<SandboxTool> All { get; } = Load();

    /// <summary>Its name.</summary>
    public string Name { get; }

    /// <summary>What it does, for a model.</summary>
    public string Description { get; }

    /// <summary>Schema of its arguments.</summary>
    public JsonElement Schema { get; }

    /// <summary>JSON type of each of its arguments.</summary>
    public IReadOnlyDictionary<string, string> Types { get; }

    /// <summary>Whether the server wants to know the sandbox; else the handle of the process says it.</summary>
    public bool NamesSandbox { get; }

    private static List<SandboxTool> Load()
    {
        using var stream = typeof(SandboxTool).Assembly.GetManifestResourceStream("tools.json")!;
        return
        [
            .. JsonNode.Parse(stream)!.AsArray().Select(t => t!.AsObject())
                .Where(t => !LeftOut.Contains(t["name"]!.GetValue<string>())).Select(t => new SandboxTool(t)),
        ];
    }

    private static JsonElement ElementOf(JsonNode node)
    {
        using var document = JsonDocument.Parse(node.ToJsonString());
        return document.RootElement.Clone();
    }
}
