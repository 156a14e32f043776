using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files.Tar;

/// <summary>Reads a directory, or one file, as an archive. Hard links become files of their own.</summary>
internal sealed class TarPacker
{
    private readonly FileWork _work;
    private readonly TarWriter _writer;
    private long _bytes, _entries, _omitted;

    private TarPacker(FileWork work) => (_work, _writer) = (work, new TarWriter(work.Pipe));

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        var packer = new TarPacker(work);
        using (var found = OpenFile.At(FileCalls.NoDirectory, work.Path, FileCalls.PathOnly))
        {
            FileFailedException.Check(FileCalls.Status(found.Descriptor, out var status), work.Path);
            if (status.Kind == FileKind.Directory)
            {
                var directory = FileFailedException.Check(FileCalls.Reopen(found.Descriptor, FileCalls.OnlyDirectory), work.Path);
                packer.PackTree(new OpenFile(directory));
            }
            else
            {
                packer.PackSingle(status);
            }
        }

        packer._writer.End();
        return new FileResult(Bytes: packer._bytes, Entries: packer._entries, Omitted: packer._omitted);
    }

    private void PackSingle(in FileStatus status)
    {
        if (status.Kind is not (FileKind.File or FileKind.Fifo))
        {
            FileFailedException.ThrowKind(_work.Path, $"is {OpenFile.NameOf(status.Kind)}, which an archive does not have");
        }

        var (_, name) = FilePath.Split(FilePath.Clean(_work.Path));
        if (status.Kind == FileKind.Fifo)
        {
            Add(name, TarKind.Fifo, status, []);
            return;
        }

        FileFailedException.Check(PackFile(FileCalls.NoDirectory, _work.Path, name, 0, _work.Path), _work.Path);
    }

    private void PackTree(OpenFile directory)
    {
        using var walk = new TreeWalk(directory, FilePath.Clean(_work.Path));
        while (walk.Depth > 0)
        {
            _work.Pipe.ThrowIfCancelled();
            if (!walk.TryNext(out var name))
            {
                if (walk.HasMore)
                {
                    throw new FileFailedException(
                        FileFailureKind.Guest, $"{FilePath.Show(walk.Show([]))} has more than {walk.MostNames} names");
                }

                walk.Leave();
                continue;
            }

            // What vanishes meanwhile is left out.
            var result = FileCalls.Status(walk.Directory, name, FileCalls.NoFollow, out var status);
            if (result >= 0)
            {
                result = Pack(walk, name, status);
            }

            if (result is FileCalls.Denied or FileCalls.NotPermitted)
            {
                _omitted++;
            }
            else if (result is not FileCalls.NoEntry)
            {
                FileFailedException.Check(result, walk.Show(name));
            }
        }
    }

    private int Pack(TreeWalk walk, ReadOnlySpan<byte> name, in FileStatus status)
    {
        byte[] entryName = [.. "./"u8, .. walk.Relative(name)];
        switch (status.Kind)
        {
            case FileKind.File:
                return PackFile(walk.Directory, name, entryName, FileCalls.NoLink, walk.Show(name));
            case FileKind.Directory:
                Add([.. entryName, (byte)'/'], TarKind.Directory, status, []);
                return walk.TryEnter(name) is var entered && entered is FileCalls.NotDirectory or FileCalls.TooManyLinks ? 0 : entered;
            case FileKind.Link:
                Span<byte> target = stackalloc byte[FileRequest.MaxPath + 1];
                var length = FileCalls.ReadLink(walk.Directory, name, target);
                if (length >= 0)
                {
                    Add(entryName, TarKind.Link, status, target[..length].ToArray());
                }

                return length;
            case FileKind.Fifo:
                Add(entryName, TarKind.Fifo, status, []);
                return 0;
            default:
                _omitted++;
                return 0;
        }
    }

    // 0, or the errno, negative, when nothing of it was written.
    private int PackFile(int directory, ReadOnlySpan<byte> name, byte[] entryName, int flags, byte[] path)
    {
        OpenFile file;
        FileStatus status;
        try
        {
            file = OpenFile.Regular(directory, name, flags, path, out status);
        }
        catch (FileFailedException e) when (flags != 0 && e.Kind is FileFailureKind.Denied or FileFailureKind.NotFound
            or FileFailureKind.WrongKind)
        {
            // Of another kind: it was replaced meanwhile.
            return e.Kind == FileFailureKind.Denied ? FileCalls.Denied : FileCalls.NoEntry;
        }

        using (file)
        {
            Add(entryName, TarKind.File, status, []);
            for (var rest = status.Size; rest > 0;)
            {
                var room = _writer.Room;
                var count = FileFailedException.Check(FileCalls.Read(file.Descriptor, room[..(int)Math.Min(rest, room.Length)]), path);
                if (count == 0)
                {
                    throw FileReader.BecameShorter(path);
                }

                _writer.Written(count);
                (rest, _bytes) = (rest - count, _bytes + count);
            }

            _writer.Pad(status.Size);
        }

        return 0;
    }

    private void Add(byte[] name, TarKind kind, in FileStatus status, byte[] link)
    {
        if (name.Length > FileRequest.MaxPath)
        {
            throw new FileFailedException(FileFailureKind.Path, $"{FilePath.Show(name)} is too long for an archive");
        }

        _entries++;
        _writer.Add(new TarEntry(kind, name)
        {
            LinkName = link,
            Size = kind == TarKind.File ? status.Size : 0,
            Mode = status.Mode,
            ModifiedAt = status.ModifiedAt,
            UserId = status.User,
            GroupId = status.Group,
            User = _work.UserName(status.User),
            Group = _work.GroupName(status.Group),
        });
    }
}
