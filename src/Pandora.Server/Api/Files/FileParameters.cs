using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.Engine;

namespace Pandora.Server.Api.Files;

/// <summary>Reads the parameters of requests for files.</summary>
internal static partial class FileParameters
{
    /// <summary>
    /// Reads a path from the query as bytes: the framework's text would lose bytes that are not UTF-8. A plus sign is a space, as forms
    /// write it.
    /// </summary>
    /// <exception cref="PandoraException">The path is missing, given twice, or has a percent sign without two hexadecimal
    /// digits.</exception>
    public static byte[] PathOf(HttpRequest request, string name = "path")
    {
        byte[]? path = null;
        foreach (var pair in (request.QueryString.Value ?? "").TrimStart('?').Split('&', StringSplitOptions.RemoveEmptyEntries))
        {
            var equals = pair.IndexOf('=', StringComparison.Ordinal);
            if (!Decode(name, equals < 0 ? pair : pair[..equals]).AsSpan().SequenceEqual(Encoding.UTF8.GetBytes(name)))
            {
                continue;
            }

            path = path is null
                ? Decode(name, equals < 0 ? "" : pair[(equals + 1)..])
                : throw PandoraException.Invalid(name, "is given twice");
        }

        return path ?? throw PandoraException.Invalid(name, "is missing: give it in the query, such as ?path=/tmp/file");
    }

    /// <summary>Reads a path from a body: a text, or bytes in base64.</summary>
    /// <exception cref="PandoraException">Neither is given, or both, or the text is not base64.</exception>
    public static byte[] PathOf(string name, string? text, string? base64)
    {
        if ((text is null) == (base64 is null))
        {
            throw PandoraException.Invalid(name, $"either {name} or {name}_base64 must be given, and not both");
        }

        try
        {
            return text is not null ? Encoding.UTF8.GetBytes(text) : Convert.FromBase64String(base64!);
        }
        catch (FormatException)
        {
            throw PandoraException.Invalid($"{name}_base64", "is not base64");
        }
    }

    /// <summary>Reads permission bits in octal; null when none are given.</summary>
    /// <exception cref="PandoraException">They are none.</exception>
    public static int? ModeOf(string? mode) => mode switch
    {
        null => null,
        _ when ModePattern().IsMatch(mode) => Convert.ToInt32(mode, 8),
        _ => throw PandoraException.Invalid("mode", "must be permission bits in octal, such as 644, up to 7777"),
    };

    /// <summary>Reads seconds since 1970 as nanoseconds; null when none are given.</summary>
    /// <exception cref="PandoraException">They are none.</exception>
    public static long? ModifiedAtOf(string? seconds)
    {
        if (seconds is null)
        {
            return null;
        }

        // Up to the year 2262, where 64 bits of nanoseconds end.
        const decimal Most = 9_223_372_035;
        return SecondsPattern().IsMatch(seconds)
            && decimal.Parse(seconds, CultureInfo.InvariantCulture) is var value and >= -Most and <= Most
            ? (long)(value * 1_000_000_000)
            : throw PandoraException.Invalid("modified_at", "must be seconds since 1970 with at most 9 decimals, such as 1767225600.5");
    }

    /// <summary>Whether an archive is compressed with gzip.</summary>
    /// <exception cref="PandoraException">The parameter is neither <c>gzip</c> nor <c>none</c>.</exception>
    public static bool IsGzip(string? compression) => compression switch
    {
        null or "none" => false,
        "gzip" => true,
        _ => throw PandoraException.Invalid("compression", "must be none or gzip"),
    };

    private static byte[] Decode(string field, string text)
    {
        var (bytes, count) = (Encoding.UTF8.GetBytes(text), 0);
        for (var i = 0; i < bytes.Length; i++)
        {
            if (bytes[i] != (byte)'%')
            {
                bytes[count++] = bytes[i] == (byte)'+' ? (byte)' ' : bytes[i];
            }
            else if (i + 2 < bytes.Length && char.IsAsciiHexDigit((char)bytes[i + 1]) && char.IsAsciiHexDigit((char)bytes[i + 2]))
            {
                bytes[count++] = Convert.FromHexString([(char)bytes[i + 1], (char)bytes[i + 2]])[0];
                i += 2;
            }
            else
            {
                throw PandoraException.Invalid(field, "the query has a % without two hexadecimal digits; write a % as %25");
            }
        }

        return bytes[..count];
    }

    [GeneratedRegex("^[0-7]{1,4}\\z|^0[0-7]{4}\\z")]
    private static partial Regex ModePattern();

    [GeneratedRegex("^-?[0-9]{1,10}(\\.[0-9]{1,9})?\\z")]
    private static partial Regex SecondsPattern();
}
