using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>A directory that is watched.</summary>
internal sealed class WatchedDirectory(WatchedDirectory? parent, byte[] name)
{
    public WatchedDirectory? Parent { get; set; } = parent;

    public byte[] Name { get; set; } = name;

    /// <summary>Number of its watch; -1 for none yet.</summary>
    public int Watch { get; set; } = -1;

    /// <summary>Its path relative to the first directory; empty for the first.</summary>
    public byte[] Path
    {
        get
        {
            // No recursion: a program of the guest says how deep the tree is, and the thread's stack is small.
            var length = 0;
            for (var at = this; at.Parent is not null; at = at.Parent)
            {
                length += at.Name.Length + 1;
            }

            var path = new byte[Math.Max(0, length - 1)];
            var end = path.Length;
            for (var at = this; at.Parent is not null; at = at.Parent)
            {
                at.Name.CopyTo(path, end - at.Name.Length);
                end -= at.Name.Length + 1;
                if (end > 0)
                {
                    path[end] = (byte)'/';
                }
            }

            return path;
        }
    }

    /// <summary>The path of a name in it.</summary>
    public byte[] PathOf(ReadOnlySpan<byte> name) => FilePath.Join(Path, name);

    /// <summary>Whether it is another directory or below it.</summary>
    public bool IsWithin(WatchedDirectory other)
    {
        var at = this;
        while (at is not null && at != other)
        {
            at = at.Parent;
        }

        return at is not null;
    }
}

/// <summary>
/// The directories that a request watches. No descriptor of them is kept: the kernel does not say that a directory was deleted while one
/// is open.
/// </summary>
internal sealed class WatchedTree
{
    /// <summary>Most directories.</summary>
    public const int MostDirectories = 8192;

    private readonly byte[] _path;
    private readonly int _inotify;
    private readonly bool _isRecursive;
    private readonly Action _throwIfCancelled;
    private readonly FileStatus _status;
    private Dictionary<int, WatchedDirectory> _watched = [];
    private int _error;

    /// <param name="path">The first directory. A link is followed.</param>
    /// <param name="inotify">Descriptor of inotify(7).</param>
    /// <param name="isRecursive">Whether the directories below are watched, too.</param>
    /// <param name="throwIfCancelled">Ends a walk that is wanted no more.</param>
    /// <exception cref="FileFailedException">It could not be opened.</exception>
    public WatchedTree(byte[] path, int inotify, bool isRecursive, Action throwIfCancelled)
    {
        (_path, _inotify, _isRecursive, _throwIfCancelled) = (path, inotify, isRecursive, throwIfCancelled);
        using var directory = OpenFirst();
        FileFailedException.Check(FileCalls.Status(directory.Descriptor, out _status), path);
    }

    /// <summary>The first directory.</summary>
    public WatchedDirectory First { get; private set; } = new(null, []);

    /// <summary>The directory of a watch; null when it is watched no more.</summary>
    public WatchedDirectory? Find(int watch) => _watched.GetValueOrDefault(watch);

    /// <summary>The watched directory of a name; null for none.</summary>
    public WatchedDirectory? Find(WatchedDirectory parent, ReadOnlySpan<byte> name)
    {
        foreach (var directory in _watched.Values)
        {
            if (directory.Parent == parent && directory.Name.AsSpan().SequenceEqual(name))
            {
                return directory;
            }
        }

        return null;
    }

    /// <summary>Watches all directories, whatever was watched before.</summary>
    /// <returns>False when not all could be watched.</returns>
    /// <exception cref="FileFailedException">The first one could not be watched.</exception>
    public bool WatchAll()
    {
        var before = _watched;
        (_watched, First) = ([], new WatchedDirectory(null, []));
        var isWhole = Watch(First, found: null);
        if (First.Watch < 0)
        {
            throw _error == FileCalls.NoSpace
                ? new FileFailedException(FileFailureKind.Guest, "the guest's limit of watched directories is reached")
                : FileFailedException.Of(_error, _path);
        }

        foreach (var watch in before.Keys.Where(w => !_watched.ContainsKey(w)))
        {
            FileCalls.RemoveWatch(_inotify, watch);
        }

        return isWhole;
    }

    /// <summary>Watches a directory, and those below when that is wanted.</summary>
    /// <param name="directory">The directory.</param>
    /// <param name="found">Called for what is in them; null for nothing.</param>
    /// <returns>False when not all could be watched.</returns>
    public bool Watch(WatchedDirectory directory, Action<WatchedDirectory, byte[], bool>? found)
    {
        var isWhole = true;
        var rest = new Stack<WatchedDirectory>([directory]);
        while (rest.TryPop(out var next))
        {
            _throwIfCancelled();
            using var file = TryOpen(next);
            if (file is null)
            {
                // It has vanished: that is an event. One that may not be read has no events.
                isWhole &= next.Parent is not null && _error is not (FileCalls.Denied or FileCalls.NotPermitted);
                continue;
            }

            if (_watched.Count >= MostDirectories)
            {
                return false;
            }

            // First the watch, then the names: what is made in between is reported twice, and not lost.
            var watch = FileCalls.AddWatch(_inotify, file.Descriptor);
            if (watch < 0)
            {
                _error = watch;
                isWhole = false;
                continue;
            }

            next.Watch = watch;
            _watched[watch] = next;
            if (_isRecursive)
            {
                isWhole &= FindIn(next, file.Descriptor, found, rest);
            }
        }

        return isWhole;
    }

    /// <summary>Forgets a directory whose watch has ended.</summary>
    public void Forget(int watch) => _watched.Remove(watch);

    /// <summary>Ends the watches of a directory and of those below, which have moved away.</summary>
    public void Leave(WatchedDirectory directory)
    {
        foreach (var (watch, _) in _watched.Where(w => w.Value.IsWithin(directory)).ToList())
        {
            _watched.Remove(watch);
            FileCalls.RemoveWatch(_inotify, watch);
        }
    }

    /// <summary>Moves a directory with those below it.</summary>
    /// <returns>False when it would come to lie in itself: an event from before the tree was looked at.</returns>
    public static bool TryMove(WatchedDirectory directory, WatchedDirectory to, byte[] newName)
    {
        if (to.IsWithin(directory))
        {
            return false;
        }

        (directory.Parent, directory.Name) = (to, newName);
        return true;
    }

    // False when a directory is not to be watched: no request can name a path that is longer, and each step down is opened by its name.
    private bool FindIn(WatchedDirectory directory, int descriptor, Action<WatchedDirectory, byte[], bool>? found,
        Stack<WatchedDirectory> rest)
    {
        var (isWhole, length) = (true, _path.Length + directory.Path.Length + 2);
        var names = NameList.Read(descriptor, NameList.MostNames, directory.Name);
        for (var i = 0; i < names.Count; i++)
        {
            if (FileCalls.Status(descriptor, names[i], FileCalls.NoFollow, out var status) < 0)
            {
                continue;
            }

            var (name, isDirectory) = (names[i].ToArray(), status.Kind == FileKind.Directory);
            found?.Invoke(directory, name, isDirectory);
            if (!isDirectory)
            {
                continue;
            }

            if (length + name.Length > FileRequest.MaxPath || _watched.Count + rest.Count >= MostDirectories)
            {
                isWhole = false;
                continue;
            }

            rest.Push(new WatchedDirectory(directory, name));
        }

        return isWhole;
    }

    private OpenFile OpenFirst() => OpenFile.At(FileCalls.NoDirectory, _path, FileCalls.OnlyDirectory | FileCalls.NonBlocking);

    private OpenFile? TryOpen(WatchedDirectory directory)
    {
        var at = FileCalls.Open(FileCalls.NoDirectory, _path, FileCalls.OnlyDirectory | FileCalls.NonBlocking);
        if (at >= 0 && (FileCalls.Status(at, out var status) < 0 || !status.IsSame(_status)))
        {
            Linux.Close(at);
            at = FileCalls.NoEntry;
        }

        var path = directory.Path.AsSpan();
        foreach (var range in path.Split((byte)'/'))
        {
            if (at >= 0 && !path[range].IsEmpty)
            {
                var next = FileCalls.Open(at, path[range], FileCalls.OnlyDirectory | FileCalls.NoLink);
                Linux.Close(at);
                at = next;
            }
        }

        _error = at;
        return at < 0 ? null : new OpenFile(at);
    }
}
