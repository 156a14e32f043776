using System.Security.Cryptography;
using System.Text;

namespace Pandora.Server.Auth;

/// <summary>Keys that open something, known by their hashes. All are compared, always, in constant time.</summary>
/// <param name="keys">The keys; empty ones are none.</param>
internal sealed class KnownKeys(IEnumerable<string> keys)
{
    private readonly byte[][] _hashes = [.. keys.Where(k => k.Length > 0).Select(Hash)];

    /// <summary>Whether there are none: then everybody may pass.</summary>
    public bool IsEmpty => _hashes.Length == 0;

    /// <summary>Whether one has this hash.</summary>
    public bool Has(byte[] hash)
    {
        var isKnown = false;
        foreach (var known in _hashes)
        {
            isKnown |= CryptographicOperations.FixedTimeEquals(hash, known);
        }

        return isKnown;
    }

    /// <summary>Whether the headers of a request, as they came, show one. No more than a look: the web server reads them again.</summary>
    /// <param name="head">The request line and the headers, to the empty line.</param>
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

    /// <summary>What a key is known by.</summary>
    public static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    /// <summary>The key that a request's two headers show; empty when they show none.</summary>
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
