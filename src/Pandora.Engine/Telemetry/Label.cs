using System.Collections.Frozen;
using System.Text.Json;

namespace Pandora.Engine.Telemetry;

/// <summary>Writes the value of an enum for metrics, logs, spans and answers: its name in snake case.</summary>
public static class Label
{
    /// <summary>Writes a value.</summary>
    public static string Of<T>(T value)
        where T : struct, Enum => Labels<T>.ByValue[value];

    /// <summary>All values of an enum, in its order.</summary>
    public static IEnumerable<string> All<T>()
        where T : struct, Enum => Enum.GetValues<T>().Select(Of);

    private static class Labels<T>
        where T : struct, Enum
    {
        public static readonly FrozenDictionary<T, string> ByValue =
            Enum.GetValues<T>().ToFrozenDictionary(v => v, v => JsonNamingPolicy.SnakeCaseLower.ConvertName($"{v}"));
    }
}
