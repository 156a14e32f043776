using System.Text.Json.Serialization;

namespace Pandora.Server.Doctor;

/// <summary>The result of a check of the host.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<HostCheckStatus>))]
internal enum HostCheckStatus
{
    /// <summary>As it should be.</summary>
    [JsonStringEnumMemberName("ok")]
    Ok,

    /// <summary>Pandora runs, with something less.</summary>
    [JsonStringEnumMemberName("warning")]
    Warning,

    /// <summary>Pandora does not run like this.</summary>
    [JsonStringEnumMemberName("problem")]
    Problem,
}

/// <summary>The result of one check of the host.</summary>
/// <param name="Name">What was checked.</param>
/// <param name="Status">The result.</param>
/// <param name="Detail">What was seen.</param>
/// <param name="Remedy">What to do; null when there is nothing to do.</param>
internal sealed record HostCheckResult(
    string Name, [property: JsonPropertyName("standing")] HostCheckStatus Status, string Detail, string? Remedy = null);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(IReadOnlyList<HostCheckResult>))]
internal sealed partial class HostCheckJson : JsonSerializerContext;
