using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files.Tar;

/// <summary>
/// Writes the files of an archive into a directory, and nowhere else: each directory on the way to a file is opened by its own name, and
/// a link there is an error.
/// </summary>
internal sealed class TarUnpacker : IDisposable
{
    private const int MostEntries = 1_000_000;
    private readonly List<(byte[] Name, uint Mode, long ModifiedAt)> _directories = [];
    private readonly FileWork _work;
    private readonly FileOwner? _owner;
    private readonly int _root;
    private readonly bool _isSparse;
    private (byte[] Name, OpenFile Directory)? _last;
    private long _bytes, _entries;

    private TarUnpacker(FileWork work, FileOwner? owner, int root) =>
        (_work, _owner, _root, _isSparse) = (work, owner, root, work.Request.Options.HasFlag(FileOptions.Sparse));

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var owner = FileOwner.Parse(work.Request.Owner);
        using var root = OpenRoot(work, owner);
        using var unpacker = new TarUnpacker(work, owner, root.Descriptor);
        try
        {
            unpacker.Unpack();
        }
        catch (FileFailedException e) when (unpacker._entries > 0)
        {
            throw new FileFailedException(e.Kind, $"{e.Message}; {unpacker._entries} entries were unpacked before, and stay");
        }

        return new FileResult(Bytes: unpacker._bytes, Entries: unpacker._entries);
    }

    public void Dispose() => _last?.Directory.Dispose();

    private static OpenFile OpenRoot(FileWork work, FileOwner? owner)
    {
        var root = FileCalls.Open(FileCalls.NoDirectory, work.Path, FileCalls.PathOnly | FileCalls.OnlyDirectory);
        if (root != FileCalls.NoEntry)
        {
            return new OpenFile(FileFailedException.Check(root, work.Path));
        }

        using var directories = new NewDirectories();
        if (work.Request.Options.HasFlag(FileOptions.MakeParents))
        {
            directories.Make(work.Path, owner);
        }

        using var place = FilePlace.Of(work.Path, "made");
        var made = NewDirectories.MakeAt(place, owner, 0x1ED /* 0755 */);
        directories.Keep();
        return made;
    }

    private void Unpack()
    {
        var reader = new TarReader(bytes => _work.Pipe.Read(bytes.Span));
        while (reader.Next() is { } entry)
        {
            if (_entries == MostEntries)
            {
                throw TarReader.Damaged($"it has more than {MostEntries} entries");
            }

            var name = TarName.Check(entry.Name);
            if (name.Length == 0)
            {
                // The directory itself, which keeps what it has.
                if (entry.Kind != TarKind.Directory)
                {
                    throw TarReader.Damaged($"the entry {FilePath.Show(entry.Name)} names the directory itself");
                }

                continue;
            }

            Unpack(reader, entry, name);
            _entries++;
        }

        FinishDirectories();
    }

    private void Unpack(TarReader reader, TarEntry entry, byte[] name)
    {
        if (entry.Kind is TarKind.CharacterDevice or TarKind.BlockDevice)
        {
            throw TarReader.Damaged($"the entry {FilePath.Show(entry.Name)} is a device");
        }

        var (parent, last) = TarName.Split(name);
        var directory = OpenParent(parent, mustMake: true);
        using var place = new FilePlace(
            FileFailedException.Check(FileCalls.Open(directory, "."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory), name), last, name);
        switch (entry.Kind)
        {
            case TarKind.File:
                UnpackFile(reader, entry, place);
                break;
            case TarKind.Directory:
                UnpackDirectory(entry, place);
                break;
            case TarKind.HardLink:
                UnpackHardLink(entry, place);
                break;
            default:
                UnpackOther(entry, place);
                break;
        }
    }

    private void UnpackFile(TarReader reader, TarEntry entry, FilePlace place)
    {
        using var file = new NewFile(place, _isSparse);
        int count;
        while ((count = _work.Fill(reader.Read)) > 0)
        {
            file.Write(_work.Chunk[..count]);
        }

        file.Finish(_owner, entry.Mode, entry.ModifiedAt);
        if (!file.TryPlaceNew())
        {
            CheckReplaced(place);
            file.Replace();
        }

        _bytes += file.Size;
    }

    private void UnpackDirectory(TarEntry entry, FilePlace place)
    {
        var made = FileCalls.MakeDirectory(place.Directory, place.Name, 0x1C0 /* 0700 */);
        if (made != FileCalls.Exists)
        {
            FileFailedException.Check(made, place.Path);
        }

        using var directory = Enter(place.Directory, place.Name, place.Path);
        if (made >= 0)
        {
            NewDirectories.SetUp(directory.Descriptor, _owner, 0x1C0, place.Path);
        }

        // Later entries change the directory's time, and a mode may forbid to make them.
        _directories.Add((place.Path, entry.Mode, entry.ModifiedAt));
    }

    private void UnpackHardLink(TarEntry entry, FilePlace place)
    {
        var (parent, last) = TarName.Split(TarName.Check(entry.LinkName));
        if (last.Length == 0)
        {
            throw TarReader.Damaged($"the entry {FilePath.Show(entry.Name)} is a link to the directory itself");
        }

        using var directory = Walk(parent, mustMake: false);
        using var file = OpenFile.At(directory.Descriptor, last, FileCalls.PathOnly | FileCalls.NoLink, entry.LinkName);
        FileFailedException.Check(FileCalls.Status(file.Descriptor, out var status), entry.LinkName);
        if (status.Kind == FileKind.Directory)
        {
            throw TarReader.Damaged($"the entry {FilePath.Show(entry.Name)} is a hard link to a directory");
        }

        var isThere = place.TryStatus(out var before);
        if (!isThere || !before.IsSame(status))
        {
            Place(place, name => FileCalls.Link(file.Descriptor, place.Directory, name));
        }
    }

    private void UnpackOther(TarEntry entry, FilePlace place)
    {
        Place(place, name => entry.Kind == TarKind.Link
            ? FileCalls.MakeLink(entry.LinkName, place.Directory, name)
            : FileCalls.MakeNode(place.Directory, name, FileStatus.FifoType | 0x180 /* 0600 */, 0));
        var kind = entry.Kind == TarKind.Link ? FileKind.Link : FileKind.Fifo;
        using var file = OpenFile.Made(place.Directory, place.Name, kind, place.Path);
        if (_owner is { } owner)
        {
            FileFailedException.Check(FileCalls.ChangeOwner(file.Descriptor, owner.User, owner.Group), place.Path);
        }

        if (entry.Kind == TarKind.Fifo)
        {
            FileFailedException.Check(FileCalls.ChangeMode(file.Descriptor, entry.Mode), place.Path);
        }

        FileFailedException.Check(FileCalls.ChangeTime(file.Descriptor, entry.ModifiedAt), place.Path);
    }

    // Makes a file under its name, or under another, from where it takes its place as a whole.
    private static void Place(FilePlace place, Func<byte[], int> make)
    {
        var made = make(place.Name);
        if (made != FileCalls.Exists)
        {
            FileFailedException.Check(made, place.Path);
            return;
        }

        CheckReplaced(place);
        var name = NewFile.NewName();
        FileFailedException.Check(make(name), place.Path);
        var renamed = FileCalls.Rename(place.Directory, name, place.Directory, place.Name, 0);
        if (renamed < 0)
        {
            FileCalls.Remove(place.Directory, name, isDirectory: false);
            FileFailedException.Check(renamed, place.Path);
        }
    }

    private static void CheckReplaced(FilePlace place)
    {
        if (place.TryStatus(out var status) && status.Kind == FileKind.Directory)
        {
            throw new FileFailedException(FileFailureKind.Exists, $"{FilePath.Show(place.Path)} is a directory already");
        }
    }

    // Most entries are in the directory of the one before.
    private int OpenParent(byte[] name, bool mustMake)
    {
        if (_last is { } last && last.Name.AsSpan().SequenceEqual(name))
        {
            return last.Directory.Descriptor;
        }

        var directory = Walk(name, mustMake);
        _last?.Directory.Dispose();
        _last = (name, directory);
        return directory.Descriptor;
    }

    private OpenFile Walk(byte[] name, bool mustMake)
    {
        var at = OpenFile.At(_root, "."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory, _work.Path);
        foreach (var range in name.AsSpan().Split((byte)'/'))
        {
            var part = name.AsSpan()[range];
            if (part.IsEmpty)
            {
                continue;
            }

            using var above = at;
            var made = mustMake ? FileCalls.MakeDirectory(above.Descriptor, part, 0x1C0 /* 0700 */) : FileCalls.Exists;
            at = Enter(above.Descriptor, part, name);
            if (made >= 0)
            {
                NewDirectories.SetUp(at.Descriptor, _owner, 0x1ED /* 0755 */, name);
            }
        }

        return at;
    }

    private static OpenFile Enter(int directory, ReadOnlySpan<byte> name, byte[] path)
    {
        var opened = FileCalls.Open(directory, name, FileCalls.PathOnly | FileCalls.OnlyDirectory | FileCalls.NoLink);
        if (opened is FileCalls.NotDirectory or FileCalls.TooManyLinks &&
            FileCalls.Status(directory, name, FileCalls.NoFollow, out var status) >= 0 && status.Kind == FileKind.Link)
        {
            throw TarReader.Damaged($"{FilePath.Show(path)} leads through a link");
        }

        return new OpenFile(FileFailedException.Check(opened, path));
    }

    private void FinishDirectories()
    {
        // The deepest first: a mode may close a directory. Of entries that name one directory the last counts.
        foreach (var (name, mode, modifiedAt) in _directories.OrderByDescending(d => d.Name.AsSpan().Count((byte)'/')))
        {
            _work.Pipe.ThrowIfCancelled();
            using var directory = Walk(name, mustMake: false);
            FileFailedException.Check(FileCalls.ChangeMode(directory.Descriptor, mode), name);
            FileFailedException.Check(FileCalls.ChangeTime(directory.Descriptor, modifiedAt), name);
        }
    }
}

/// <summary>Names of entries in an archive that may be hostile.</summary>
internal static class TarName
{
    /// <summary>Checks that a name leads nowhere but into the directory.</summary>
    /// <returns>The name without "." and empty names; empty for the directory itself.</returns>
    /// <exception cref="FileFailedException">It leads out, or is none.</exception>
    public static byte[] Check(byte[] name)
    {
        if (name.Length == 0 || name.Length > FileRequest.MaxPath || name.Contains((byte)0))
        {
            throw TarReader.Damaged($"the name {FilePath.Show(name)} is empty, too long, or has a NUL");
        }

        if (name[0] == '/')
        {
            throw TarReader.Damaged($"the name {FilePath.Show(name)} is absolute");
        }

        foreach (var range in name.AsSpan().Split((byte)'/'))
        {
            if (name.AsSpan()[range].SequenceEqual(".."u8))
            {
                throw TarReader.Damaged($"the name {FilePath.Show(name)} leads out of the directory");
            }
        }

        // Without the first slash.
        return FilePath.Clean(name)[1..];
    }

    /// <summary>Splits a checked name at its last part.</summary>
    public static (byte[] Parent, byte[] Name) Split(byte[] name)
    {
        var slash = name.AsSpan().LastIndexOf((byte)'/');
        return slash < 0 ? ([], name) : (name[..slash], name[(slash + 1)..]);
    }
}
