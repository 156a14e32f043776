using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Pandora.Engine;

namespace Pandora.Mcp.Tools;

/// <summary>Reads the arguments of a call.</summary>
internal static class ToolArguments
{
    /// <summary>Reads them.</summary>
    /// <exception cref="PandoraException">One is missing, unknown, or has the wrong type: <see cref="PandoraException.Field"/> names
    /// it.</exception>
    public static T Read<T>(IDictionary<string, JsonElement>? given, JsonTypeInfo<T> type)
        where T : class
    {
        var arguments = given ?? new Dictionary<string, JsonElement>();
        var known = type.Properties.ToDictionary(p => p.Name, StringComparer.Ordinal);
        // A misspelt 'sandbox' must not make a new one.
        if (arguments.Keys.FirstOrDefault(k => !known.ContainsKey(k)) is { } unknown)
        {
            throw PandoraException.Invalid(
                Shown(unknown), known.Count == 0
                    ? "there is no such argument: this tool has none"
                    : $"there is no such argument; the arguments are {string.Join(", ", known.Keys)}");
        }

        foreach (var property in known.Values.Where(p => p.IsRequired))
        {
            if (!arguments.TryGetValue(property.Name, out var value) || value.ValueKind == JsonValueKind.Null)
            {
                throw PandoraException.Invalid(property.Name, "must be given");
            }
        }

        using var body = new MemoryStream();
        using (var writer = new Utf8JsonWriter(body))
        {
            writer.WriteStartObject();
            foreach (var (name, value) in arguments.Where(a => a.Value.ValueKind != JsonValueKind.Null))
            {
                writer.WritePropertyName(name);
                value.WriteTo(writer);
            }

            writer.WriteEndObject();
        }

        try
        {
            return JsonSerializer.Deserialize(body.GetBuffer().AsSpan(0, (int)body.Length), type)!;
        }
        catch (JsonException e)
        {
            var field = e.Path is { Length: > 2 } path ? path[2..] : "arguments";
            var name = field.Split('.', '[')[0];
            throw PandoraException.Invalid(
                Shown(name), known.TryGetValue(name, out var property) ? $"must be {Kind(property.PropertyType)}" : "has the wrong type");
        }
    }

    private static string Shown(string name) => name.Length > 64 ? name[..64] + "…" : name;

    private static string Kind(Type type)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        return type == typeof(string) ? "text"
            : type == typeof(bool) ? "true or false"
            : type == typeof(double) ? "a number"
            : type == typeof(int) ? $"a whole number of at most {int.MaxValue}"
            : type == typeof(long) ? "a whole number"
            : "an object of texts";
    }
}
