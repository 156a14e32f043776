using System.Text.Json.Serialization;

namespace Pandora.Server.Doctor;

/// <summary>How a finding stands.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Standing>))]
internal enum Standing
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

/// <summary>One line of the doctor's.</summary>
/// <param name="Name">What was looked at.</param>
/// <param name="Standing">How it stands.</param>
/// <param name="Detail">What was seen.</param>
/// <param name="Remedy">What to do; null when there is nothing to do.</param>
internal sealed record Finding(string Name, Standing Standing, string Detail, string? Remedy = null);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    WriteIndented = true,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(IReadOnlyList<Finding>))]
internal sealed partial class FindingJson : JsonSerializerContext;
