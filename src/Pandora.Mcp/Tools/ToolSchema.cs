using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization.Metadata;
using Microsoft.Extensions.AI;

namespace Pandora.Mcp.Tools;

/// <summary>Makes the schemas of arguments and answers from their types.</summary>
internal static class ToolSchema
{
    /// <summary>The schema of arguments. Others are refused.</summary>
    public static JsonElement OfArguments(JsonTypeInfo type)
    {
        var schema = Make(type);
        schema["additionalProperties"] = false;
        return JsonSerializer.SerializeToElement(schema, McpJson.Default.JsonObject);
    }

    /// <summary>The schema of an answer.</summary>
    public static JsonElement OfAnswer(JsonTypeInfo type)
    {
        var schema = Make(type);
        Open(schema);
        return JsonSerializer.SerializeToElement(schema, McpJson.Default.JsonObject);
    }

    // A later server may answer more, and clients check answers by the schema.
    private static void Open(JsonNode? node)
    {
        if (node is JsonObject schema)
        {
            schema.Remove("additionalProperties");
        }

        foreach (var child in node is JsonObject o ? o.Select(p => p.Value) : node is JsonArray a ? a : [])
        {
            Open(child);
        }
    }

    private static JsonObject Make(JsonTypeInfo type)
    {
        var element = AIJsonUtilities.CreateJsonSchema(type.Type, serializerOptions: McpJson.Default.Options);
        var schema = JsonObject.Create(element)!;
        schema.Remove("$schema");
        Simplify(schema);
        return schema;
    }

    // A value that may be left out is never null in an answer, and some models cannot write arguments of two types.
    private static void Simplify(JsonNode? node)
    {
        if (node is JsonArray array)
        {
            foreach (var item in array)
            {
                Simplify(item);
            }
        }

        if (node is not JsonObject schema)
        {
            return;
        }

        // The generator requires every parameter of a record's constructor.
        if (schema["required"] is JsonArray required && schema["properties"] is JsonObject properties)
        {
            required.RemoveAll(n => properties[n!.GetValue<string>()]!["type"] is JsonArray);
            _ = required.Count == 0 && schema.Remove("required");
        }

        if (schema["type"] is JsonArray types)
        {
            schema["type"] = types.Select(t => t!.GetValue<string>()).First(t => t != "null");
        }

        // It says null.
        schema.Remove("default");
        foreach (var (_, value) in schema.ToList())
        {
            Simplify(value);
        }
    }
}
