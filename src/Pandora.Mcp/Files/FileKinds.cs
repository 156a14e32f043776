using System.Buffers;
using System.Buffers.Binary;
using System.Text;

namespace Pandora.Mcp.Files;

/// <summary>Tells by its bytes what a file is.</summary>
internal static class FileKinds
{
    // As git does: a file with a NUL in its beginning is binary.
    private const int Searched = 8000;

    /// <summary>The media type of an image that models can see; null for anything else.</summary>
    public static string? ImageTypeOf(ReadOnlySpan<byte> bytes) =>
        bytes is [0x89, (byte)'P', (byte)'N', (byte)'G', ..] ? "image/png"
        : bytes is [0xFF, 0xD8, 0xFF, ..] ? "image/jpeg"
        : bytes.StartsWith("GIF87a"u8) || bytes.StartsWith("GIF89a"u8) ? "image/gif"
        : bytes.StartsWith("RIFF"u8) && bytes.Length >= 12 && bytes[8..12].SequenceEqual("WEBP"u8) ? "image/webp"
        : null;

    /// <summary>
    /// Whether an image has a size, and the end that its type has: what models are shown of others, their makers refuse with the whole
    /// conversation. PNG 5.3 and 11.2.1, JPEG B.1.1.3, GIF89a 18 and 27, RFC 9649.
    /// </summary>
    public static bool IsWholeImage(ReadOnlySpan<byte> bytes) => ImageTypeOf(bytes) switch
    {
        "image/png" => bytes.Length > 45 && bytes[12..16].SequenceEqual("IHDR"u8) && BinaryPrimitives.ReadUInt32BigEndian(bytes[16..]) > 0
            && BinaryPrimitives.ReadUInt32BigEndian(bytes[20..]) > 0 && bytes[^8..^4].SequenceEqual("IEND"u8),
        // A frame has the size; some cameras add bytes after the end.
        "image/jpeg" => bytes.Length > 100 && bytes.LastIndexOf((ReadOnlySpan<byte>)[0xFF, 0xD9]) > 100,
        "image/gif" => bytes.Length > 26 && BinaryPrimitives.ReadUInt16LittleEndian(bytes[6..]) > 0
            && BinaryPrimitives.ReadUInt16LittleEndian(bytes[8..]) > 0 && bytes[^1] == 0x3B,
        "image/webp" => bytes.Length > 30 && BinaryPrimitives.ReadUInt32LittleEndian(bytes[4..]) + 8L <= bytes.Length,
        _ => false,
    };

    /// <summary>Whether it is text.</summary>
    public static bool IsText(ReadOnlySpan<byte> bytes) => !bytes[..Math.Min(bytes.Length, Searched)].Contains((byte)0);

    /// <summary>The beginning of a text.</summary>
    /// <param name="bytes">The text, in UTF-8; other bytes become U+FFFD.</param>
    /// <param name="most">Most characters.</param>
    /// <returns>The text, its bytes, and how many of these are no UTF-8. A text that is cut ends at the end of a line, unless its last
    /// line is long.</returns>
    public static (string Text, int Bytes, int Invalid) TextOf(ReadOnlySpan<byte> bytes, int most)
    {
        var (text, taken, invalid, line) = (new StringBuilder(), 0, 0, (Chars: 0, Bytes: 0, Invalid: 0));
        while (taken < bytes.Length)
        {
            var status = Rune.DecodeFromUtf8(bytes[taken..], out var rune, out var length);
            if (text.Length + rune.Utf16SequenceLength > most)
            {
                return line.Chars > most / 2
                    ? (text.ToString(0, line.Chars), line.Bytes, line.Invalid)
                    : (text.ToString(), taken, invalid);
            }

            text.Append(rune.ToString());
            taken += length;
            invalid += status == OperationStatus.Done ? 0 : length;
            if (rune.Value == '\n')
            {
                line = (text.Length, taken, invalid);
            }
        }

        return (text.ToString(), taken, invalid);
    }
}
