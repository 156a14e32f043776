using System.Formats.Tar;

namespace Pandora.Client;

/// <summary>The files of a local directory, read without following links: each directory before what is in it.</summary>
internal sealed class LocalTree
{
    // What .NET makes of a byte that is not UTF-8.
    private const char NotUtf8 = '\uFFFD';
    private const int UsualFileMode = 0x1A4, UsualDirectoryMode = 0x1ED;
    private readonly string _root;
    private readonly bool _excludesIgnored;
    private readonly IgnoreRules _exclude;
    private readonly List<(string Prefix, IgnoreRules Rules)> _above = [];

    /// <summary>Prepares the walk.</summary>
    /// <param name="root">The directory.</param>
    /// <param name="options">What is left out.</param>
    /// <exception cref="DirectoryNotFoundException">There is no such directory.</exception>
    public LocalTree(string root, UploadOptions options)
    {
        _root = Path.TrimEndingDirectorySeparator(Path.GetFullPath(root));
        if (!Directory.Exists(_root))
        {
            throw new DirectoryNotFoundException($"there is no directory '{root}'");
        }

        (_excludesIgnored, _exclude) = (options.ExcludesIgnored, IgnoreRules.Of(options.Exclude));
        if (_excludesIgnored)
        {
            ReadAbove();
        }
    }

    /// <summary>Walks the tree. A file that vanishes before it is looked at is left out.</summary>
    /// <exception cref="IOException">A directory cannot be read.</exception>
    /// <exception cref="UnauthorizedAccessException">A directory must not be read.</exception>
    public IEnumerable<LocalFile> Walk()
    {
        var waiting = new Stack<(string Path, List<(string Prefix, IgnoreRules Rules)> Rules)>();
        waiting.Push(("", _above));
        while (waiting.TryPop(out var next))
        {
            var (directory, rules) = next;
            if (directory.Length > 0)
            {
                yield return Describe(new DirectoryInfo(FullPath(directory)), directory);
            }

            if (_excludesIgnored && IgnoreRules.Read(FullPath(directory.Length == 0 ? ".gitignore" : $"{directory}/.gitignore")) is { } own)
            {
                rules = [.. rules, ($"{directory}/", own)];
            }

            var entries = Entries(directory);
            var below = new List<string>();
            foreach (var entry in entries)
            {
                var path = directory.Length == 0 ? entry.Name : $"{directory}/{entry.Name}";
                var isDirectory = (entry.Attributes & (FileAttributes.Directory | FileAttributes.ReparsePoint)) == FileAttributes.Directory;
                if (IsExcluded(path, isDirectory, rules))
                {
                    continue;
                }

                if (isDirectory && !entry.Name.Contains(NotUtf8))
                {
                    below.Add(path);
                    continue;
                }

                var file = Describe(entry, path);
                if (file.Header is not null || file.Reason is not null)
                {
                    yield return file;
                }
            }

            below.Reverse();
            below.ForEach(b => waiting.Push((b, rules)));
        }
    }

    /// <summary>A path below the root as the system has it.</summary>
    public string FullPath(string path) => path.Length == 0 ? _root : Path.Combine(_root, path);

    /// <summary>Permission bits of a local file; those that are usual where the system has none.</summary>
    public static int ModeOf(FileSystemInfo file) => OperatingSystem.IsWindows()
        ? file is DirectoryInfo ? UsualDirectoryMode : UsualFileMode
        : (int)file.UnixFileMode & 0xFFF;

    /// <summary>
    /// Whether a local file that is no directory and no link is a regular file. One that has bytes is. Else System.Formats.Tar looks,
    /// which does not open it: to open a FIFO could take for ever.
    /// </summary>
    public static bool IsRegular(FileInfo file)
    {
        if (OperatingSystem.IsWindows() || file.Length > 0)
        {
            return true;
        }

        using var header = new MemoryStream();
        try
        {
            // A name of its own: the header has room for 100 bytes.
            using var writer = new TarWriter(header, TarEntryFormat.Ustar, leaveOpen: true);
            writer.WriteEntry(file.FullName, "file");
        }
        catch (IOException)
        {
            // A socket, or what has vanished.
            return false;
        }

        return header.Length > 156 && header.GetBuffer()[156] is (byte)TarEntry.File or (byte)TarEntry.OldFile;
    }

    private static LocalFile Describe(FileSystemInfo file, string path)
    {
        if (path.Contains(NotUtf8) && !Path.Exists(file.FullName))
        {
            return new LocalFile(path, null) { Reason = "its name is not UTF-8" };
        }

        var time = new DateTimeOffset(file.LastWriteTimeUtc);
        if (file.LinkTarget is { } target)
        {
            var link = OperatingSystem.IsWindows() ? target.Replace('\\', '/') : target;
            return link.Contains(NotUtf8)
                ? new LocalFile(path, null) { Reason = "what the link contains is not UTF-8" }
                : new LocalFile(path, new TarEntry($"./{path}", TarEntry.Link, 0, 0x1FF, time, link));
        }

        if (file is DirectoryInfo)
        {
            return new LocalFile(path, new TarEntry($"./{path}/", TarEntry.Directory, 0, ModeOf(file), time));
        }

        // Vanished since its name was read.
        if (!file.Exists)
        {
            return new LocalFile(path, null);
        }

        var regular = (FileInfo)file;
        return IsRegular(regular)
            ? new LocalFile(path, new TarEntry($"./{path}", TarEntry.File, regular.Length, ModeOf(file), time))
            : new LocalFile(path, null) { Reason = "it is no regular file, directory or link" };
    }

    private List<FileSystemInfo> Entries(string directory)
    {
        var options = new EnumerationOptions { AttributesToSkip = 0, IgnoreInaccessible = false, ReturnSpecialDirectories = false };
        try
        {
            var entries = new DirectoryInfo(FullPath(directory)).EnumerateFileSystemInfos("*", options).ToList();
            entries.Sort((a, b) => string.CompareOrdinal(a.Name, b.Name));
            return entries;
        }
        catch (DirectoryNotFoundException) when (directory.Length > 0)
        {
            // Vanished since its name was read.
            return [];
        }
    }

    private bool IsExcluded(string path, bool isDirectory, List<(string Prefix, IgnoreRules Rules)> rules)
    {
        if (_exclude.Decide(path, isDirectory) == true || (_excludesIgnored && path.Split('/')[^1] == ".git"))
        {
            return true;
        }

        // The patterns of the nearest directory come first.
        for (var i = rules.Count - 1; i >= 0; i--)
        {
            var (prefix, set) = rules[i];
            var relative = prefix.EndsWith('/') ? path[(prefix.Length == 1 ? 0 : prefix.Length)..] : prefix[1..] + "/" + path;
            if (set.Decide(relative, isDirectory) is { } decided)
            {
                return decided;
            }
        }

        return false;
    }

    // The patterns of the directories above, up to the repository's root, and the repository's own. Their prefix is the way from them to
    // the root of the walk, with a slash before: "/src/lib"; that of the root itself is "/".
    private void ReadAbove()
    {
        var directories = new List<string>();
        for (var at = _root; at is not null; at = Path.GetDirectoryName(at))
        {
            directories.Insert(0, at);
            if (Path.Exists(Path.Combine(at, ".git")))
            {
                AddAbove(at, Path.Combine(at, ".git", "info", "exclude"));
                // The root's own is read by the walk.
                directories.Where(d => d != _root).ToList().ForEach(d => AddAbove(d, Path.Combine(d, ".gitignore")));
                return;
            }
        }
    }

    private void AddAbove(string directory, string file)
    {
        if (IgnoreRules.Read(file) is { } rules)
        {
            var way = Path.GetRelativePath(directory, _root).Replace('\\', '/');
            _above.Add((way == "." ? "/" : $"/{way}", rules));
        }
    }
}

/// <summary>One file of a <see cref="LocalTree"/>.</summary>
/// <param name="Path">Its path, relative to the root, with <c>/</c> between directories.</param>
/// <param name="Header">Its header in an archive; null when it is left out.</param>
internal sealed record LocalFile(string Path, TarEntry? Header)
{
    /// <summary>Why it is left out; null when it is not, or has vanished.</summary>
    public string? Reason { get; init; }
}
