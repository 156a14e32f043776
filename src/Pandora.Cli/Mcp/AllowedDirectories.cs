using Pandora.Linux;

namespace Pandora.Cli.Mcp;

/// <summary>
/// The directories of this machine whose files an agent may use. A path counts by where it leads: links are followed first, so that none
/// leads out. Guests can make links (in directories that are downloaded), so paths are looked at anew at each use, one use at a time.
/// </summary>
internal sealed class AllowedDirectories
{
    // As the kernel's: path_resolution(7).
    private const int MaxLinks = 40;
    private readonly IReadOnlyList<string> _roots;

    /// <summary>Allows directories.</summary>
    /// <exception cref="UsageException">One does not exist.</exception>
    public AllowedDirectories(IEnumerable<string> directories) => _roots =
    [
        .. directories.Select(d => Directory.Exists(d)
            ? Follow(Path.GetFullPath(d))
            : throw new UsageException($"--allow: there is no directory '{d}'")),
    ];

    /// <summary>Whether there is none.</summary>
    public bool IsEmpty => _roots.Count == 0;

    /// <summary>Their names, for people and models.</summary>
    public string Names => string.Join(", ", _roots);

    /// <summary>Where a path leads.</summary>
    /// <param name="path">The path; relative to the first directory when it does not begin with a slash.</param>
    /// <returns>The path without links; null when it leads out.</returns>
    public string? Find(string path)
    {
        if (path.Length == 0 || path.Contains('\0'))
        {
            return null;
        }

        // Not by GetFullPath: 'link/..' is the parent of where the link leads.
        string real;
        try
        {
            real = Follow(path.StartsWith('/') ? path : $"{_roots[0]}/{path}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return null;
        }

        return _roots.Any(r => real == r || real.StartsWith(r.TrimEnd('/') + "/", StringComparison.Ordinal)) ? real : null;
    }

    /// <summary>Whether a file is a regular file or a directory. Opening a FIFO would wait, and a device may do anything.</summary>
    public static bool IsPlain(string path)
    {
        try
        {
            return Directory.Exists(path) || FileStatus.Find(path) is { IsRegular: true };
        }
        catch (IOException)
        {
            // A name that is too long.
            return false;
        }
    }

    private static string Follow(string path)
    {
        var (left, at, links) = (new Stack<string>(path.Split('/').Reverse()), "", 0);
        while (left.TryPop(out var name))
        {
            if (name is "" or ".")
            {
                continue;
            }

            if (name == "..")
            {
                at = at[..Math.Max(0, at.LastIndexOf('/'))];
                continue;
            }

            if (new FileInfo($"{at}/{name}").LinkTarget is not { } target)
            {
                at = $"{at}/{name}";
                continue;
            }

            if (++links > MaxLinks)
            {
                return "";
            }

            at = target.StartsWith('/') ? "" : at;
            foreach (var part in target.Split('/').Reverse())
            {
                left.Push(part);
            }
        }

        return at.Length == 0 ? "/" : at;
    }
}
