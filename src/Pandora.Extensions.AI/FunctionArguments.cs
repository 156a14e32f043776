using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pandora.Extensions.AI;

/// <summary>The arguments of a call: what a model wrote, and the sandbox.</summary>
internal static class FunctionArguments
{
    /// <summary>Says why a call is not made; null when it is.</summary>
    /// <param name="tool">The tool.</param>
    /// <param name="given">What the model wrote.</param>
    /// <param name="sandbox">Id of the sandbox that the function is bound to.</param>
    public static string? Refuse(SandboxTool tool, IReadOnlyDictionary<string, object?> given, string sandbox)
    {
        // A model that read another id in a file or an output must not reach that sandbox: the program's key may open it.
        if (tool.NamesSandbox && given.TryGetValue(SandboxTool.Sandbox, out var named) && !IsNull(named) && TextOf(named) != sandbox)
        {
            return $"invalid_request: {SandboxTool.Sandbox}: this function uses the sandbox {sandbox} only; leave the argument out";
        }

        if (tool.Types.ContainsKey(SandboxTool.Process) && given.TryGetValue(SandboxTool.Process, out var process)
            && TextOf(process)?.StartsWith($"{sandbox}/", StringComparison.Ordinal) == false)
        {
            return $"invalid_request: {SandboxTool.Process}: must be a handle of the sandbox {sandbox}, from an answer of run or "
                + "process_start";
        }

        return null;
    }

    /// <summary>The arguments for the server.</summary>
    /// <param name="tool">The tool.</param>
    /// <param name="given">What the model wrote.</param>
    /// <param name="sandbox">Id of the sandbox that the function is bound to.</param>
    public static Dictionary<string, object?> Bind(SandboxTool tool, IReadOnlyDictionary<string, object?> given, string sandbox)
    {
        var bound = given.ToDictionary(a => a.Key, a => Typed(tool.Types.GetValueOrDefault(a.Key), a.Value));
        if (tool.NamesSandbox)
        {
            bound[SandboxTool.Sandbox] = sandbox;
        }

        return bound;
    }

    // Arguments of Semantic Kernel may be text, and some models write numbers as text. The server is strict.
    private static object? Typed(string? type, object? value)
    {
        if (type is null or "string" || TextOf(value) is not { } text)
        {
            return value;
        }

        try
        {
            using var document = JsonDocument.Parse(type == "boolean" ? text.ToLowerInvariant() : text);
            return !Fits(document.RootElement.ValueKind, type) ? value
                // Some models write 5.0 for 5.
                : type == "integer" && document.RootElement.TryGetDouble(out var number) && number % 1 == 0 && Math.Abs(number) < 1e15
                ? (long)number
                : document.RootElement.Clone();
        }
        catch (JsonException)
        {
            return value;
        }
    }

    private static bool Fits(JsonValueKind kind, string type) => type switch
    {
        "number" or "integer" => kind == JsonValueKind.Number,
        "boolean" => kind is JsonValueKind.True or JsonValueKind.False,
        "object" => kind == JsonValueKind.Object,
        _ => false,
    };

    private static string? TextOf(object? value) => value switch
    {
        string text => text,
        JsonElement { ValueKind: JsonValueKind.String } element => element.GetString(),
        JsonValue node when node.TryGetValue(out string? text) => text,
        _ => null,
    };

    private static bool IsNull(object? value) => value is null or JsonElement { ValueKind: JsonValueKind.Null };
}
