namespace Pandora.Cli.Files;

/// <summary>One side of a copy: a file of a sandbox, a local file, or a pipe.</summary>
/// <param name="Sandbox">Id of the sandbox; null for a local file.</param>
/// <param name="Path">The path as the user wrote it; in a sandbox <c>.</c> is the user's home.</param>
internal sealed record CopySide(string? Sandbox, string Path)
{
    /// <summary>Whether it is standard input or output.</summary>
    public bool IsPipe => Sandbox is null && Path == "-";

    /// <summary>Whether the path can only be a directory.</summary>
    public bool IsDirectoryByName => Path.EndsWith('/') || Path is "." or ".." || Path.EndsWith("/.", StringComparison.Ordinal)
        || Path.EndsWith("/..", StringComparison.Ordinal);

    /// <summary>
    /// Reads a side: <c>ID:PATH</c> or <c>ID:</c> is in a sandbox. A word is local when a slash comes before its first colon, so a local
    /// name with a colon is written with <c>./</c>.
    /// </summary>
    /// <exception cref="UsageException">It is empty.</exception>
    public static CopySide Parse(string word)
    {
        if (word.Length == 0)
        {
            throw new UsageException("an empty word names no file");
        }

        var colon = word.IndexOf(':');
        return colon <= 0 || word.AsSpan(0, colon).Contains('/')
            ? new CopySide(null, word)
            : new CopySide(word[..colon], word[(colon + 1)..] is { Length: > 0 } path ? path : ".");
    }

    /// <summary>The last name of a path; null where it ends with none, such as <c>.</c> or <c>/</c>.</summary>
    public static string? NameOf(string path)
    {
        var name = path.TrimEnd('/').Split('/')[^1];
        return name is "" or "." or ".." ? null : name;
    }

    /// <summary>A path in a directory.</summary>
    public static string Join(string directory, string name) => directory.EndsWith('/') ? directory + name : $"{directory}/{name}";
}
