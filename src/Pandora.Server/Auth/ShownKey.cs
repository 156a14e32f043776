using System.Text;

namespace Pandora.Server.Auth;

/// <summary>Finds the key in a request.</summary>
internal static class ShownKey
{
    /// <summary>The key in a request's two headers; empty when there is none.</summary>
    public static string Of(string? authorization, string? apiKey)
    {
        const string Scheme = "Bearer ";
        return authorization?.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) == true
            ? authorization[Scheme.Length..].Trim()
            : apiKey ?? "";
    }

    /// <summary>The key in a request's raw headers; empty when there is none. The web server parses the headers again later.</summary>
    /// <param name="head">The request line and the headers, up to the empty line.</param>
    public static string Of(ReadOnlySpan<byte> head)
    {
        string? authorization = null, apiKey = null;
        foreach (var range in head.Split("\r\n"u8))
        {
            var line = head[range];
            if (line.IndexOf((byte)':') is >= 0 and var colon)
            {
                var value = line[(colon + 1)..];
                authorization ??= Value(line[..colon], "Authorization"u8, value);
                apiKey ??= Value(line[..colon], "X-API-Key"u8, value);
            }
        }

        return Of(authorization, apiKey);
    }

    private static string? Value(ReadOnlySpan<byte> name, ReadOnlySpan<byte> wanted, ReadOnlySpan<byte> value) =>
        Ascii.EqualsIgnoreCase(name, wanted) ? Encoding.UTF8.GetString(value).Trim() : null;
}
