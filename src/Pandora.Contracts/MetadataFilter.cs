namespace Pandora.Contracts;

/// <summary>
/// A pair of metadata as <c>GET /sandboxes?metadata=key:value</c> takes it. The first colon ends the key, so a colon in the key is written
/// <c>%3A</c>, and a percent sign <c>%25</c>; the value stays as it is. Both come on top of the escapes of the URL.
/// </summary>
public static class MetadataFilter
{
    /// <summary>Writes a pair, before it is escaped for a URL.</summary>
    public static string Write(string key, string value)
    {
        ArgumentNullException.ThrowIfNull(key);
        return $"{key.Replace("%", "%25", StringComparison.Ordinal).Replace(":", "%3A", StringComparison.Ordinal)}:{value}";
    }

    /// <summary>Reads the part before the first colon. Other escapes, and a percent sign that begins none, are taken as they are.</summary>
    public static string ReadKey(string written)
    {
        ArgumentNullException.ThrowIfNull(written);
        return written.Replace("%3A", ":", StringComparison.OrdinalIgnoreCase).Replace("%25", "%", StringComparison.Ordinal);
    }
}
