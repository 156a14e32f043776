using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pandora.Server.Audit;

/// <summary>
/// One line of the audit's file: an operation, or the number of lines that are missing. Members that are null are left out.
/// </summary>
internal sealed record AuditRecord
{
    /// <summary>The operation of a line that says how many lines are missing before it.</summary>
    public const string LostLines = "lost";

    /// <summary>When the operation ended.</summary>
    [JsonConverter(typeof(TimeConverter))]
    public required DateTimeOffset Time { get; init; }

    public required string Operation { get; init; }

    /// <summary><c>ok</c>, <c>timeout</c>, or the code of the error.</summary>
    public string? Outcome { get; init; }

    public string? Sandbox { get; init; }

    /// <summary>Project of the sandbox; where there is no sandbox, that of the caller.</summary>
    public string? Project { get; init; }

    /// <summary>Name of the caller's key.</summary>
    public string? Key { get; init; }

    public string? KeyId { get; init; }

    public string? Address { get; init; }

    public string? Trace { get; init; }

    public string? Template { get; init; }

    public string? Process { get; init; }

    public int? Signal { get; init; }

    /// <summary>Bytes that were written to the input, or sent over a connection to the guest.</summary>
    public long? InputBytes { get; init; }

    /// <summary>Path of the file, in printable ASCII.</summary>
    public string? Path { get; init; }

    /// <summary>Where a file was moved or copied to, in printable ASCII.</summary>
    public string? Target { get; init; }

    /// <summary>A port of the sandbox.</summary>
    public int? Port { get; init; }

    /// <summary>Whether previews of the port need neither key nor link from then on.</summary>
    public bool? Public { get; init; }

    /// <summary>Bytes of the file or archive that were read or written, or that came over a connection from the guest.</summary>
    public long? Bytes { get; init; }

    public bool? Warm { get; init; }

    public bool? Replayed { get; init; }

    public string? Egress { get; init; }

    public int? ExitCode { get; init; }

    public string? Reason { get; init; }

    public int? Execs { get; init; }

    public double? LivedS { get; init; }

    public double? Ms { get; init; }

    public string? Command { get; init; }

    public bool? CommandTruncated { get; init; }

    /// <summary>Lines that are missing.</summary>
    public long? Lost { get; init; }

    // UTC with milliseconds, always of the same length.
    internal sealed class TimeConverter : JsonConverter<DateTimeOffset>
    {
        public override DateTimeOffset Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            reader.GetDateTimeOffset();

        public override void Write(Utf8JsonWriter writer, DateTimeOffset value, JsonSerializerOptions options) =>
            writer.WriteStringValue(value.UtcDateTime.ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'", CultureInfo.InvariantCulture));
    }
}

/// <summary>The JSON of the audit's file.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower, DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull)]
[JsonSerializable(typeof(AuditRecord))]
internal sealed partial class AuditJson : JsonSerializerContext
{
    /// <summary>
    /// Of what is not needed for JSON, it leaves the characters of shells as they are: <c>a &amp;&amp; b</c> can be found with grep. Line
    /// breaks and other control characters are always escaped.
    /// </summary>
    public static readonly JsonWriterOptions Writer = new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
}
