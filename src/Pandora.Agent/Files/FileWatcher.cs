using System.Buffers.Binary;
using Pandora.Agent.Protocol.Files;
using FileOptions = Pandora.Agent.Protocol.Files.FileOptions;

namespace Pandora.Agent.Files;

/// <summary>
/// Watches a directory by inotify(7), until the stream is closed or the directory is gone. Events wait in the kernel's queue while the
/// server does not read; when it is full, the server learns that events were lost.
/// </summary>
internal sealed class FileWatcher
{
    // struct inotify_event: watch, mask, cookie, length of the name, the name.
    private const int HeaderSize = 16;
    private const int PairMilliseconds = 20;
    private const uint Modify = 2, Attributes = 4, MovedFrom = 0x40, MovedTo = 0x80, Created = 0x100, Deleted = 0x200, DeletedSelf = 0x400,
        MovedSelf = 0x800, Unmounted = 0x2000, Overflow = 0x4000, Ignored = 0x8000, Directory = 0x4000_0000;

    private readonly Dictionary<uint, (WatchedDirectory Parent, byte[] Name, bool IsDirectory, long Since)> _movedFrom = [];
    private readonly FileWork _work;
    private readonly WatchedTree _tree;
    private readonly int _inotify;
    private bool _isGone, _mustLookAgain;

    private FileWatcher(FileWork work, int inotify)
    {
        (_work, _inotify) = (work, inotify);
        _tree = new WatchedTree(work.Path, inotify, IsRecursive, work.Pipe.ThrowIfCancelled);
    }

    private bool IsRecursive => _work.Request.Options.HasFlag(FileOptions.Recursive);

    /// <summary>Does a request.</summary>
    public static FileResult Run(FileWork work)
    {
        using var inotify = new OpenFile(FileFailedException.Check(FileCalls.CreateInotify(), work.Path));
        using var cancelled = new OpenFile(Linux.CreateEvent());
        work.Pipe.SignalCancel(cancelled.Descriptor);
        try
        {
            new FileWatcher(work, inotify.Descriptor).Watch(cancelled.Descriptor);
            return new FileResult();
        }
        finally
        {
            work.Pipe.SignalCancel(-1);
        }
    }

    private void Watch(int cancelled)
    {
        var isWhole = _tree.WatchAll();
        Tell(FileChange.Started, []);
        if (!isWhole)
        {
            Tell(FileChange.Lost, []);
        }

        Span<byte> buffer = stackalloc byte[16 * 1024];
        while (!_isGone)
        {
            FileCalls.WaitForEither(_inotify, cancelled, _movedFrom.Count > 0 ? PairMilliseconds : -1);
            _work.Pipe.ThrowIfCancelled();
            var count = FileCalls.Read(_inotify, buffer);
            if (count == FileCalls.Again)
            {
                // The other half does not come: they were moved away.
                TellMovedAway();
                continue;
            }

            FileFailedException.Check(count, _work.Path);
            for (var rest = (ReadOnlySpan<byte>)buffer[..count]; !rest.IsEmpty && !_isGone;)
            {
                var length = HeaderSize + BinaryPrimitives.ReadInt32LittleEndian(rest[12..]);
                Handle(rest[..length]);
                rest = rest[length..];
            }

            // Other events may come without end.
            TellMovedAway(since: Environment.TickCount64 - PairMilliseconds);
            LookAgain();
        }

        TellMovedAway();
        Tell(FileChange.Gone, []);
    }

    private void Handle(ReadOnlySpan<byte> data)
    {
        var watch = BinaryPrimitives.ReadInt32LittleEndian(data);
        var mask = BinaryPrimitives.ReadUInt32LittleEndian(data[4..]);
        if ((mask & Overflow) != 0)
        {
            _mustLookAgain = true;
            return;
        }

        if (_tree.Find(watch) is not { } directory)
        {
            return;
        }

        if ((mask & (Ignored | DeletedSelf | MovedSelf | Unmounted)) != 0)
        {
            _isGone = directory == _tree.First;
            if ((mask & Ignored) != 0)
            {
                _tree.Forget(watch);
            }

            return;
        }

        var name = data[HeaderSize..].TrimEnd((byte)0).ToArray();
        if (name.Length > 0)
        {
            Handle(mask, BinaryPrimitives.ReadUInt32LittleEndian(data[8..]), directory, name);
        }
    }

    private void Handle(uint mask, uint cookie, WatchedDirectory directory, byte[] name)
    {
        var isDirectory = (mask & Directory) != 0;
        TellMovedAway(directory, name);
        switch (mask & ~Directory)
        {
            case Created:
                Tell(FileChange.Created, directory.PathOf(name), isDirectory);
                WatchNew(directory, name, isDirectory);
                break;
            case Modify:
                Tell(FileChange.Modified, directory.PathOf(name), isDirectory);
                break;
            case Attributes:
                Tell(FileChange.Attributes, directory.PathOf(name), isDirectory);
                break;
            case Deleted:
                Tell(FileChange.Deleted, directory.PathOf(name), isDirectory);
                break;
            case MovedFrom:
                _movedFrom[cookie] = (directory, name, isDirectory, Environment.TickCount64);
                break;
            case MovedTo when _movedFrom.Remove(cookie, out var from):
                Move(from.Parent, from.Name, directory, name, isDirectory);
                break;
            case MovedTo:
                Tell(FileChange.Created, directory.PathOf(name), isDirectory);
                WatchNew(directory, name, isDirectory);
                break;
        }
    }

    private void Move(WatchedDirectory from, byte[] name, WatchedDirectory to, byte[] newName, bool isDirectory)
    {
        var change = new FileEvent(FileChange.Moved, from.PathOf(name), to.PathOf(newName), isDirectory);
        _work.Pipe.Write(FileMessage.Event, change.Encode());
        if (!isDirectory || !IsRecursive)
        {
            return;
        }

        if (_tree.Find(from, name) is { } moved)
        {
            _mustLookAgain |= !WatchedTree.TryMove(moved, to, newName);
        }
        else
        {
            WatchNew(to, newName, isDirectory);
        }
    }

    private void WatchNew(WatchedDirectory parent, byte[] name, bool isDirectory)
    {
        if (isDirectory && IsRecursive && !_tree.Watch(new WatchedDirectory(parent, name), (directory, found, isFoundDirectory) =>
            Tell(FileChange.Created, directory.PathOf(found), isFoundDirectory)))
        {
            Tell(FileChange.Lost, []);
        }
    }

    private void LookAgain()
    {
        if (_mustLookAgain && !_isGone)
        {
            _mustLookAgain = false;
            _movedFrom.Clear();
            Tell(FileChange.Lost, []);
            try
            {
                _tree.WatchAll();
            }
            catch (FileFailedException e) when (e.Kind == FileFailureKind.NotFound)
            {
                _isGone = true;
            }
        }
    }

    // Those of one name, before the name has another event; or those from a time and before.
    private void TellMovedAway(WatchedDirectory? directory = null, byte[]? name = null, long since = long.MaxValue)
    {
        foreach (var (cookie, moved) in _movedFrom)
        {
            if (moved.Since <= since
                && (directory is null || (moved.Parent == directory && moved.Name.AsSpan().SequenceEqual(name))))
            {
                _movedFrom.Remove(cookie);
                Tell(FileChange.Deleted, moved.Parent.PathOf(moved.Name), moved.IsDirectory);
                if (moved.IsDirectory && _tree.Find(moved.Parent, moved.Name) is { } left)
                {
                    _tree.Leave(left);
                }
            }
        }
    }

    private void Tell(FileChange change, byte[] path, bool isDirectory = false) =>
        _work.Pipe.Write(FileMessage.Event, new FileEvent(change, path, [], isDirectory).Encode());
}
