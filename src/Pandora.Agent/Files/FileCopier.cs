using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>Copies a file, or a directory with what is in it. Modes, times, links and holes are kept; root keeps owners, too.</summary>
internal sealed class FileCopier
{
    private readonly FileWork _work;
    private long _bytes, _entries;

    private FileCopier(FileWork work) => _work = work;

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var target = FilePath.MakeAbsolute(work.Request.Target, work.Account);
        using var directories = new NewDirectories();
        if (work.Request.Options.HasFlag(FileOptions.MakeParents))
        {
            directories.Make(target, owner: null);
        }

        using var from = FilePlace.Of(work.Path, "copied");
        using var to = FilePlace.Of(target, "replaced");
        if (!from.TryStatus(out var status))
        {
            throw FileFailedException.Of(FileCalls.NoEntry, from.Path);
        }

        if (status.Kind == FileKind.Directory && !work.Request.Options.HasFlag(FileOptions.Recursive))
        {
            FileFailedException.ThrowKind(from.Path, "is a directory, which is copied on request only");
        }

        var result = Copy(work, from, to, status, work.Request.Options.HasFlag(FileOptions.Replace));
        directories.Keep();
        using var copied = OpenFile.At(to.Directory, to.Name, FileCalls.PathOnly | FileCalls.NoLink, target);
        work.SendEntry(copied.Descriptor, target);
        return result;
    }

    /// <summary>Copies what is at a place.</summary>
    /// <exception cref="FileFailedException">It could not be copied. Of a directory, a part of the copy may be left.</exception>
    public static FileResult Copy(FileWork work, FilePlace from, FilePlace to, in FileStatus status, bool mayReplace)
    {
        var isThere = FileMover.CheckTarget(to, status.Kind == FileKind.Directory, mayReplace);
        var copier = new FileCopier(work);
        if (status.Kind == FileKind.Directory)
        {
            CheckNotInside(status, to, "copied");
            copier.CopyTree(from, to);
        }
        else
        {
            copier.CopyOne(from.Directory, from.Name, from.Path, to, status, mayReplace);
        }

        return new FileResult(!isThere, copier._bytes, copier._entries);
    }

    /// <summary>Makes sure that a directory is not to be put into itself.</summary>
    /// <exception cref="FileFailedException">It is.</exception>
    public static void CheckNotInside(in FileStatus directory, FilePlace to, string use)
    {
        var at = OpenFile.At(to.Directory, "."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory, to.Path);
        try
        {
            FileFailedException.Check(FileCalls.Status(at.Descriptor, out var status), to.Path);
            while (true)
            {
                if (status.IsSame(directory))
                {
                    FileFailedException.ThrowKind(to.Path, $"is inside the directory that is to be {use}");
                }

                var above = OpenFile.At(at.Descriptor, ".."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory, to.Path);
                at.Dispose();
                at = above;
                FileFailedException.Check(FileCalls.Status(at.Descriptor, out var next), to.Path);
                if (next.IsSame(status))
                {
                    // The root directory is above itself.
                    return;
                }

                status = next;
            }
        }
        finally
        {
            at.Dispose();
        }
    }

    private void CopyTree(FilePlace from, FilePlace to)
    {
        using var targets = new DirectoryStack();
        using var walk = new TreeWalk(
            OpenFile.At(from.Directory, from.Name, FileCalls.OnlyDirectory | FileCalls.NoLink, from.Path), from.Path);
        try
        {
            targets.Push(MakeDirectory(to.Directory, to.Name, to.Path), to.Path);
            FileFailedException.Check(FileCalls.Status(targets.Top, out var first), to.Path);
            while (walk.Depth > 0)
            {
                _work.Pipe.ThrowIfCancelled();
                if (!walk.TryNext(out var name))
                {
                    using var done = targets.Pop(to.Path);
                    Finish(done.Descriptor, walk.DirectoryStatus, walk.Show([]));
                    walk.Leave();
                    continue;
                }

                var path = walk.Show(name);
                var found = FileCalls.Status(walk.Directory, name, FileCalls.NoFollow, out var status);
                if (found == FileCalls.NoEntry)
                {
                    continue;
                }

                FileFailedException.Check(found, path);
                if (status.Kind == FileKind.Directory)
                {
                    if (status.IsSame(first))
                    {
                        FileFailedException.ThrowKind(path, "is the copy itself, which was moved into the directory");
                    }

                    FileFailedException.Check(walk.TryEnter(name), path);
                    targets.Push(MakeDirectory(targets.Top, walk.DirectoryName, path), path);
                }
                else
                {
                    using var place = new FilePlace(FileFailedException.Check(FileCalls.Open(
                        targets.Top, "."u8, FileCalls.PathOnly | FileCalls.OnlyDirectory), path), name.ToArray(), path);
                    CopyOne(walk.Directory, place.Name, path, place, status, mayReplace: false);
                }
            }
        }
        catch (FileFailedException e) when (_entries > 0)
        {
            throw new FileFailedException(e.Kind, $"{e.Message}; {_entries} files were copied before");
        }
    }

    private OpenFile MakeDirectory(int directory, byte[] name, byte[] path)
    {
        FileFailedException.Check(FileCalls.MakeDirectory(directory, name, 0x1C0 /* 0700 */), path);
        _entries++;
        return OpenFile.At(directory, name, FileCalls.PathOnly | FileCalls.OnlyDirectory | FileCalls.NoLink, path);
    }

    private void CopyOne(int directory, byte[] name, byte[] path, FilePlace to, in FileStatus status, bool mayReplace)
    {
        switch (status.Kind)
        {
            case FileKind.File:
                CopyFile(directory, name, path, to, mayReplace);
                break;
            case FileKind.Link:
                CopyOther(to, status, mayReplace, FileWork.ReadLink(directory, name, path));
                break;
            default:
                CopyOther(to, status, mayReplace, link: null);
                break;
        }

        _entries++;
    }

    private void CopyFile(int directory, byte[] name, byte[] path, FilePlace to, bool mayReplace)
    {
        using var source = OpenFile.Regular(directory, name, FileCalls.NoLink, path, out var status);
        using var file = new NewFile(to, isSparse: false);
        var size = FileReader.HasFalseSize(source.Descriptor) ? 0 : status.Size;
        for (var at = 0L; ;)
        {
            var data = FileCalls.Seek(source.Descriptor, at, FileCalls.SeekData);
            var end = data < 0 ? data : FileCalls.Seek(source.Descriptor, data, FileCalls.SeekHole);
            if (data == -6 /* ENXIO: a hole to the end */)
            {
                FileFailedException.Check(FileCalls.Status(source.Descriptor, out var now), path);
                file.Skip(now.Size >= size ? Math.Max(0, size - at) : throw FileReader.BecameShorter(path));
                break;
            }

            // A filesystem without holes has all data.
            (data, end) = end < 0 ? (at, long.MaxValue) : (data, end);
            file.Skip(data - at);
            FileFailedException.Check((int)Math.Min(0, FileCalls.Seek(source.Descriptor, data, FileCalls.SeekSet)), path);
            at = CopyData(source.Descriptor, file, data, end, path);
            if (at < end)
            {
                // The end of the file. One that ends earlier than it did has lost what was to be copied.
                if (at < size)
                {
                    throw FileReader.BecameShorter(path);
                }

                break;
            }
        }

        _bytes += file.Size;
        var (owner, mode) = OwnerOf(status);
        file.Finish(owner, mode, status.ModifiedAt);
        if (!file.TryPlaceNew())
        {
            if (!mayReplace)
            {
                throw FileFailedException.Of(FileCalls.Exists, to.Path);
            }

            file.Replace();
        }
    }

    // To the end of the data, or of the file.
    private long CopyData(int source, NewFile file, long at, long end, byte[] path)
    {
        while (at < end)
        {
            _work.Pipe.ThrowIfCancelled();
            var count = FileFailedException.Check(
                FileCalls.Read(source, _work.Chunk[..(int)Math.Min(end - at, FileWork.ChunkSize)]), path);
            if (count == 0)
            {
                break;
            }

            file.Write(_work.Chunk[..count]);
            at += count;
        }

        return at;
    }

    // A link, a FIFO, a socket's name or a device. It is made under another name first, so that it takes its place as a whole.
    private void CopyOther(FilePlace to, in FileStatus status, bool mayReplace, byte[]? link)
    {
        var name = NewFile.NewName();
        var made = link is not null
            ? FileCalls.MakeLink(link, to.Directory, name)
            : FileCalls.MakeNode(to.Directory, name, (status.FullMode & 0xF000) | 0x180 /* 0600 */, status.Device);
        FileFailedException.Check(made, to.Path);
        try
        {
            using var file = OpenFile.Made(to.Directory, name, status.Kind, to.Path);
            if (link is null)
            {
                Finish(file.Descriptor, status, to.Path);
            }
            else
            {
                if (OwnerOf(status).Owner is { } owner)
                {
                    FileFailedException.Check(FileCalls.ChangeOwner(file.Descriptor, owner.User, owner.Group), to.Path);
                }

                FileFailedException.Check(FileCalls.ChangeTime(file.Descriptor, status.ModifiedAt), to.Path);
            }

            FileFailedException.Check(
                FileCalls.Rename(to.Directory, name, to.Directory, to.Name, mayReplace ? 0 : FileCalls.NoReplace), to.Path);
        }
        catch
        {
            FileCalls.Remove(to.Directory, name, isDirectory: false);
            throw;
        }
    }

    private void Finish(int file, in FileStatus status, byte[] path)
    {
        var (owner, mode) = OwnerOf(status);
        NewDirectories.SetUp(file, owner, mode, path);
        FileFailedException.Check(FileCalls.ChangeTime(file, status.ModifiedAt), path);
    }

    // The bits that give the owner's rights to others do not pass to another owner.
    private (FileOwner? Owner, uint Mode) OwnerOf(in FileStatus status) => _work.IsRoot
        ? (new FileOwner(status.User, status.Group), status.Mode)
        : (null, status.User == _work.Account.User && status.Group == _work.Account.Group ? status.Mode : status.Mode & 0x3FF);
}
