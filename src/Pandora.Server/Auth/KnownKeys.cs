using System.Security.Cryptography;
using System.Text;

namespace Pandora.Server.Auth;

/// <summary>The keys of one purpose, kept as hashes. Each check compares all of them, in constant time.</summary>
/// <param name="keys">The keys; empty strings are ignored.</param>
internal sealed class KnownKeys(IEnumerable<string> keys)
{
    private readonly byte[][] _hashes = [.. keys.Where(k => k.Length > 0).Select(Hash)];

    /// <summary>Whether there are no keys. Then every client may pass.</summary>
    public bool IsEmpty => _hashes.Length == 0;

    /// <summary>Whether one of the keys has this hash.</summary>
    public bool Has(byte[] hash)
    {
        var isKnown = false;
        foreach (var known in _hashes)
        {
            isKnown |= CryptographicOperations.FixedTimeEquals(hash, known);
        }

        return isKnown;
    }

    /// <summary>Whether the raw headers of a request contain one of the keys. The web server parses the headers again later.</summary>
    /// <param name="head">The request line and the headers, up to the empty line.</param>
    public bool AreShownIn(ReadOnlySpan<byte> head)
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

        return !IsEmpty && Shown(authorization, apiKey) is { Length: > 0 } key && Has(Hash(key));
    }

    /// <summary>The hash by which a key is known: SHA-256.</summary>
    public static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    /// <summary>The key in a request's two headers; empty when there is none.</summary>
    public static string Shown(string? authorization, string? apiKey)
    {
        const string Scheme = "Bearer ";
        return authorization?.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) == true
            ? authorization[Scheme.Length..].Trim()
            : apiKey ?? "";
    }

    private static string? Value(ReadOnlySpan<byte> name, ReadOnlySpan<byte> wanted, ReadOnlySpan<byte> value) =>
        Ascii.EqualsIgnoreCase(name, wanted) ? Encoding.UTF8.GetString(value).Trim() : null;
}
