using System.Text.Json.Serialization;

namespace Pandora.Server.Doctor;

/// <summary>Whether a check of the host passed.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<HostCheckStatus>))]
internal enum HostCheckStatus
{
    /// <summary>The check passed.</summary>
    [JsonStringEnumMemberName("ok")]
    Ok,

    /// <summary>Pandora runs, with a limitation.</summary>
    [JsonStringEnumMemberName("warning")]
    Warning,

    /// <summary>Pandora cannot run on this host as it is.</summary>
    [JsonStringEnumMemberName("problem")]
    Problem,
}

/// <summary>The result of one check of the host.</summary>
/// <param name="Name">What was checked.</param>
/// <param name="Status">Whether the check passed.</param>
/// <param name="Detail">What the check found.</param>
/// <param name="Remedy">What the operator can do; null when there is nothing to do.</param>
internal sealed record HostCheckResult(
    string Name, [property: JsonPropertyName("standing")] HostCheckStatus Status, string Detail, string? Remedy = null);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(IReadOnlyList<HostCheckResult>))]
internal sealed partial class HostCheckJson : JsonSerializerContext;
