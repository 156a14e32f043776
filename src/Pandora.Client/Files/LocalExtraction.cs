using System.Buffers;

namespace Pandora.Client;

/// <summary>
/// Writes the entries of an archive that is not trusted into a local directory, and nothing anywhere else. A sandbox's root may have made
/// any archive. No link is followed below the directory, neither one of the archive nor one that was there; no link is made that leads out
/// of the directory; devices and FIFOs are not made; the bits setuid, setgid and sticky are not set; bytes and entries are limited.
/// </summary>
internal sealed class LocalExtraction(string root, DownloadOptions options, TransferCount count)
{
    private const int PermissionBits = 0x1FF, OwnDirectory = 0x1C0;
    private static readonly SearchValues<char> NotOnWindows = SearchValues.Create(@"\:*?""<>|");
    private readonly byte[] _buffer = new byte[128 * 1024];

    // Directories below the root that were seen to be directories, and no links. Nothing here makes another thing of one.
    private readonly HashSet<string> _known = new(StringComparer.Ordinal);
    private readonly List<(string Path, TarEntry Entry)> _made = [];
    private long _entries, _leftOut;

    /// <summary>Writes all entries.</summary>
    /// <exception cref="InvalidDataException">The archive has what is not taken.</exception>
    /// <exception cref="EndOfStreamException">It was cut.</exception>
    /// <exception cref="IOException">The directory cannot be written.</exception>
    public async Task RunAsync(TarInput archive, CancellationToken cancellationToken)
    {
        try
        {
            while (await archive.NextAsync(cancellationToken).ConfigureAwait(false) is { } entry)
            {
                if (++_entries > options.MaxEntries)
                {
                    throw new InvalidDataException($"the archive has more than the {options.MaxEntries} entries that are taken");
                }

                await WriteAsync(entry, archive, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            FinishDirectories();
        }
    }

    private async Task WriteAsync(TarEntry entry, TarInput archive, CancellationToken cancellationToken)
    {
        if (entry.Name is null)
        {
            LeaveOut(entry);
            count.Skip($"entry {_entries}", "its name is not UTF-8");
            return;
        }

        var parts = PartsOf(entry.Name);
        var shown = string.Join('/', parts);
        if (parts.Count == 0)
        {
            // The directory itself, whose mode the local user chose.
            return;
        }

        switch (entry.Type)
        {
            case TarEntry.Directory:
                MakeDirectory(parts, entry);
                break;
            case TarEntry.OldFile when entry.Name.EndsWith('/'):
                MakeDirectory(parts, entry);
                break;
            case TarEntry.File or TarEntry.OldFile or TarEntry.ContiguousFile:
                await WriteFileAsync(parts, shown, entry, archive, cancellationToken).ConfigureAwait(false);
                break;
            case TarEntry.Link:
                MakeLink(parts, shown, entry.LinkTarget);
                break;
            case TarEntry.HardLink:
                await CopyLinkedAsync(parts, shown, entry, cancellationToken).ConfigureAwait(false);
                break;
            case TarEntry.CharacterDevice or TarEntry.BlockDevice:
                count.Skip(shown, "it is a device");
                break;
            case TarEntry.Fifo:
                count.Skip(shown, "it is a FIFO");
                break;
            default:
                LeaveOut(entry);
                count.Skip(shown, "it is of a type that is not known");
                break;
        }
    }

    private static List<string> PartsOf(string name)
    {
        var parts = new List<string>();
        if (name.Length == 0 || name.StartsWith('/') || name.Contains('\0'))
        {
            throw Refused(name, "is empty, absolute or has a NUL");
        }

        foreach (var part in name.Split('/'))
        {
            if (part == "..")
            {
                throw Refused(name, "leads out of the directory");
            }

            if (OperatingSystem.IsWindows() && part is not ("" or ".") && !IsWindowsName(part))
            {
                throw Refused(name, "cannot be a name on Windows");
            }

            if (part is not ("" or "."))
            {
                parts.Add(part);
            }
        }

        return parts;
    }

    /// <summary>Whether Windows takes a name as it is. It cuts dots and spaces off the end, which makes ".." of ".. ", and takes some names
    /// for devices, whatever follows their first dot ("Naming Files, Paths, and Namespaces").</summary>
    internal static bool IsWindowsName(string name)
    {
        if (name.AsSpan().ContainsAny(NotOnWindows) || name[^1] is '.' or ' ' || name.Any(c => c < ' '))
        {
            return false;
        }

        var dot = name.IndexOf('.', StringComparison.Ordinal);
        var first = (dot < 0 ? name : name[..dot]).TrimEnd(' ').ToUpperInvariant();
        return first is not ("CON" or "PRN" or "AUX" or "NUL" or "CONIN$" or "CONOUT$")
            && !(first.Length == 4 && first[..3] is "COM" or "LPT" && first[3] is (>= '0' and <= '9') or '¹' or '²' or '³');
    }

    private static InvalidDataException Refused(string name, string why) =>
        new($"the archive has an entry that is refused: '{Shown(name)}' {why}");

    // What a sandbox sends may have anything in it, also what a terminal acts on.
    private static string Shown(string name)
    {
        var text = name.Length > 200 ? $"{name[..200]}…" : name;
        return string.Concat(text.Select(c => char.IsControl(c) ? '?' : c));
    }

    private string PathOf(List<string> parts) => Path.Combine([root, .. parts]);

    // The directory of an entry, made where it is missing. A link on the way is never followed.
    private void MakeParents(List<string> parts)
    {
        for (var i = 1; i < parts.Count; i++)
        {
            var path = PathOf(parts[..i]);
            if (_known.Contains(path))
            {
                continue;
            }

            if (!MustBeDirectory(path, parts))
            {
                Make(path);
            }

            _known.Add(path);
        }
    }

    // False when there is nothing.
    private static bool MustBeDirectory(string path, List<string> parts)
    {
        var file = new FileInfo(path);
        if (file.LinkTarget is not null)
        {
            throw Refused(string.Join('/', parts), "leads through a link");
        }

        return Directory.Exists(path)
            || (file.Exists ? throw Refused(string.Join('/', parts), "needs a directory where a file is") : false);
    }

    private static void Make(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            Directory.CreateDirectory(path);
        }
        else
        {
            Directory.CreateDirectory(path, (UnixFileMode)OwnDirectory | UnixFileMode.GroupRead | UnixFileMode.GroupExecute
                | UnixFileMode.OtherRead | UnixFileMode.OtherExecute);
        }
    }

    private void MakeDirectory(List<string> parts, TarEntry entry)
    {
        MakeParents(parts);
        var path = PathOf(parts);
        if (!_known.Contains(path) && !MustBeDirectory(path, parts))
        {
            if (OperatingSystem.IsWindows())
            {
                Directory.CreateDirectory(path);
            }
            else
            {
                // Its own mode may forbid to write into it, and comes at the end.
                Directory.CreateDirectory(path, (UnixFileMode)OwnDirectory);
            }

            _made.Add((path, entry));
        }

        _known.Add(path);
        count.AddDirectory();
    }

    private async Task WriteFileAsync(
        List<string> parts, string shown, TarEntry entry, TarInput archive, CancellationToken cancellationToken)
    {
        CheckSize(entry.Size);
        MakeParents(parts);
        var path = PathOf(parts);
        MustNotBeDirectory(path, shown);
        var before = count.Bytes;
        try
        {
            var writer = LocalFileWriter.Create(path);
            await using (writer.ConfigureAwait(false))
            {
                while (await archive.ReadAsync(_buffer, cancellationToken).ConfigureAwait(false) is > 0 and var length)
                {
                    await writer.WriteAsync(_buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
                    count.AddBytes(length, shown);
                }

                await writer.CompleteAsync(entry.Mode, entry.ModifiedAt).ConfigureAwait(false);
            }
        }
        catch
        {
            count.SetBytes(before, shown);
            throw;
        }

        count.AddFile(shown);
    }

    private void MakeLink(List<string> parts, string shown, string? target)
    {
        if (target is null)
        {
            count.Skip(shown, "what the link contains is not UTF-8");
            return;
        }

        if (!StaysInside(parts.Count - 1, target))
        {
            count.Skip(shown, $"it is a link that leads, or could lead, out of the directory: '{Shown(target)}'");
            return;
        }

        MakeParents(parts);
        var path = PathOf(parts);
        MustNotBeDirectory(path, shown);
        // A link or a file that is there is removed itself.
        File.Delete(path);
        File.CreateSymbolicLink(path, target);
        count.AddLink();
    }

    // The directories of a link are no links, so each ".." at its beginning leads one up. After a name it could lead up from where another
    // link leads.
    private static bool StaysInside(int depth, string target)
    {
        if (target.Length == 0 || target.Contains('\0') || Path.IsPathRooted(target)
            || (OperatingSystem.IsWindows() && target.AsSpan().ContainsAny('\\', ':')))
        {
            return false;
        }

        var hasName = false;
        foreach (var part in target.Split('/'))
        {
            if (part == ".." && (hasName || --depth < 0))
            {
                return false;
            }

            if (part is not (".." or "." or ""))
            {
                hasName = true;
                if (OperatingSystem.IsWindows() && !IsWindowsName(part))
                {
                    return false;
                }
            }
        }

        return true;
    }

    // .NET makes no hard links: the content is copied.
    private async Task CopyLinkedAsync(List<string> parts, string shown, TarEntry entry, CancellationToken cancellationToken)
    {
        if (entry.LinkTarget is null)
        {
            count.Skip(shown, "the name of the file that it links to is not UTF-8");
            return;
        }

        var from = PartsOf(entry.LinkTarget);
        for (var i = 1; i < from.Count; i++)
        {
            if (!MustBeDirectory(PathOf(from[..i]), from))
            {
                throw Refused(entry.LinkTarget, "is linked to and is not there");
            }
        }

        var source = new FileInfo(PathOf(from));
        if (from.Count == 0 || source.LinkTarget is not null || !source.Exists || !LocalTree.IsRegular(source))
        {
            throw Refused(entry.LinkTarget, "is linked to and is no regular file");
        }

        CheckSize(source.Length);
        MakeParents(parts);
        var path = PathOf(parts);
        MustNotBeDirectory(path, shown);
        if (path == source.FullName)
        {
            return;
        }

        var input = source.OpenRead();
        var writer = LocalFileWriter.Create(path);
        await using (input.ConfigureAwait(false))
        await using (writer.ConfigureAwait(false))
        {
            while (await input.ReadAsync(_buffer, cancellationToken).ConfigureAwait(false) is > 0 and var length)
            {
                await writer.WriteAsync(_buffer.AsMemory(0, length), cancellationToken).ConfigureAwait(false);
                count.AddBytes(length, shown);
            }

            await writer.CompleteAsync(LocalTree.ModeOf(source), new DateTimeOffset(source.LastWriteTimeUtc)).ConfigureAwait(false);
        }

        count.AddFile(shown);
    }

    // Its content must be read all the same.
    private void LeaveOut(TarEntry entry)
    {
        CheckSize(entry.Size);
        _leftOut += entry.Size;
    }

    private void CheckSize(long size)
    {
        if (size > options.MaxBytes - count.Bytes - _leftOut)
        {
            throw new InvalidDataException($"the archive has more than the {options.MaxBytes} bytes of content that are taken");
        }
    }

    private static void MustNotBeDirectory(string path, string shown)
    {
        if (Directory.Exists(path) && new DirectoryInfo(path).LinkTarget is null)
        {
            throw Refused(shown, "would replace a directory");
        }
    }

    // The deepest first: to write into a directory changes its time, and its mode may close it.
    private void FinishDirectories()
    {
        for (var i = _made.Count - 1; i >= 0; i--)
        {
            var (path, entry) = _made[i];
            if (entry.ModifiedAt is { } time)
            {
                Directory.SetLastWriteTimeUtc(path, time.UtcDateTime);
            }

            if (!OperatingSystem.IsWindows())
            {
                File.SetUnixFileMode(path, (UnixFileMode)(entry.Mode & PermissionBits));
            }
        }
    }
}
