using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>
/// Writes long texts in pieces: as a whole, a writer makes room for six bytes a character at once, which for 10 MiB of output is 60.
/// </summary>
internal sealed class LongTextConverter : JsonConverter<string>
{
#if NET10_0_OR_GREATER
    private const int Piece = 16 * 1024;

#endif

    /// <inheritdoc/>
    public override string? Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) => reader.GetString();

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, string value, JsonSerializerOptions options)
    {
        ArgumentNullException.ThrowIfNull(writer);
        ArgumentNullException.ThrowIfNull(value);
#if NET10_0_OR_GREATER
        if (value.Length <= Piece)
        {
            writer.WriteStringValue(value);
            return;
        }

        for (var start = 0; start < value.Length; start += Piece)
        {
            writer.WriteStringValueSegment(
                value.AsSpan(start, Math.Min(Piece, value.Length - start)), isFinalSegment: start + Piece >= value.Length);
        }
#else
        // A client only reads; a server runs on .NET 10.
        writer.WriteStringValue(value);
#endif
    }
}
