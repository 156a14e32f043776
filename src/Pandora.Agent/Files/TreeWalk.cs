using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>
/// Goes through a directory and those below by descriptors, so that no link is followed that a program puts there meanwhile. It needs no
/// deep stack, and keeps few descriptors open: it goes back up by "..", and looks whether that is the directory it came from.
/// </summary>
internal sealed class TreeWalk : IDisposable
{
    private const int MostOpen = 64;
    private readonly List<Level> _levels = [];
    private readonly byte[] _path;

    /// <param name="directory">The directory; it is closed with this.</param>
    /// <param name="path">Its path, for messages.</param>
    /// <param name="mostNames">Most names that are read of one directory at once.</param>
    /// <exception cref="FileFailedException">It could not be read.</exception>
    public TreeWalk(OpenFile directory, byte[] path, int mostNames = NameList.MostNames)
    {
        (_path, MostNames) = (path, mostNames);
        Push(directory, []);
    }

    /// <summary>Most names that are read of one directory at once.</summary>
    public int MostNames { get; }

    /// <summary>Number of directories that the walk is in; 0 at its end.</summary>
    public int Depth => _levels.Count;

    /// <summary>Descriptor of the directory that the walk is in.</summary>
    public int Directory => Top.File!.Descriptor;

    /// <summary>Name of that directory in the one above.</summary>
    public byte[] DirectoryName => Top.Name;

    /// <summary>What is known of that directory.</summary>
    public FileStatus DirectoryStatus => Top.Status;

    /// <summary>Whether more names may be in that directory than were read of it.</summary>
    public bool HasMore => Top.Names.Count >= MostNames;

    private Level Top => _levels[^1];

    /// <summary>The path of that directory relative to the first one; empty for the first.</summary>
    public byte[] RelativePath
    {
        get
        {
            var length = 0;
            foreach (var level in _levels)
            {
                length += level.Name.Length + 1;
            }

            var path = new byte[length];
            length = 0;
            foreach (var level in _levels.Skip(1))
            {
                if (length > 0)
                {
                    path[length++] = (byte)'/';
                }

                level.Name.CopyTo(path, length);
                length += level.Name.Length;
            }

            return path[..length];
        }
    }

    /// <summary>The path of a name in that directory relative to the first one.</summary>
    public byte[] Relative(ReadOnlySpan<byte> name) => FilePath.Join(RelativePath, name);

    /// <summary>The path of a name in that directory, for messages.</summary>
    public byte[] Show(ReadOnlySpan<byte> name) => FilePath.Join(_path, name.IsEmpty ? RelativePath : Relative(name));

    /// <summary>The next name of the directory that the walk is in.</summary>
    public bool TryNext(out ReadOnlySpan<byte> name)
    {
        var level = Top;
        name = level.Next < level.Names.Count ? level.Names[level.Next++] : default;
        return !name.IsEmpty;
    }

    /// <summary>Leaves out the names of that directory that come before one.</summary>
    public void SkipTo(ReadOnlySpan<byte> name)
    {
        var level = Top;
        while (level.Next < level.Names.Count && level.Names[level.Next].SequenceCompareTo(name) < 0)
        {
            level.Next++;
        }
    }

    /// <summary>Takes a name when it is the next one.</summary>
    public bool TryTake(ReadOnlySpan<byte> name)
    {
        var level = Top;
        if (level.Next == level.Names.Count || !level.Names[level.Next].SequenceEqual(name))
        {
            return false;
        }

        level.Next++;
        return true;
    }

    /// <summary>Goes into a directory.</summary>
    /// <returns>0, or the errno, negative: it is no directory any more, or may not be read.</returns>
    /// <exception cref="FileFailedException">It could not be read, once it was open.</exception>
    public int TryEnter(ReadOnlySpan<byte> name)
    {
        var descriptor = FileCalls.Open(Directory, name, FileCalls.OnlyDirectory | FileCalls.NoLink);
        if (descriptor < 0)
        {
            return descriptor;
        }

        var own = name.ToArray();
        Push(new OpenFile(descriptor), own);
        if (Depth > MostOpen)
        {
            // The first one stays open.
            _levels[^MostOpen].Close();
        }

        return 0;
    }

    /// <summary>Reads the names of the directory that the walk is in anew.</summary>
    public void ReadAgain()
    {
        FileFailedException.Check((int)Math.Min(0, FileCalls.Seek(Directory, 0, FileCalls.SeekSet)), Show([]));
        (Top.Names, Top.Next) = (NameList.Read(Directory, MostNames, Show([])), 0);
    }

    /// <summary>Goes back up. After the first directory the walk is at its end.</summary>
    /// <exception cref="FileFailedException">The directory was moved meanwhile.</exception>
    public void Leave()
    {
        var left = Top;
        try
        {
            if (Depth > 1 && _levels[^2].File is null)
            {
                var above = OpenFile.At(left.File!.Descriptor, ".."u8, FileCalls.OnlyDirectory | FileCalls.NoLink, _path);
                _levels[^2].File = above;
                FileFailedException.Check(FileCalls.Status(above.Descriptor, out var status), _path);
                if (!status.IsSame(_levels[^2].Status))
                {
                    throw new FileFailedException(FileFailureKind.Guest, $"{FilePath.Show(Show([]))} was moved meanwhile");
                }
            }
        }
        finally
        {
            left.Close();
        }

        _levels.RemoveAt(_levels.Count - 1);
    }

    public void Dispose() => _levels.ForEach(l => l.Close());

    private void Push(OpenFile directory, byte[] name)
    {
        var level = new Level(directory, name);
        _levels.Add(level);
        FileFailedException.Check(FileCalls.Status(directory.Descriptor, out var status), Show([]));
        level.Status = status;
        level.Names = NameList.Read(directory.Descriptor, MostNames, Show([]));
    }

    private sealed class Level(OpenFile file, byte[] name)
    {
        public OpenFile? File { get; set; } = file;

        public byte[] Name => name;

        public FileStatus Status { get; set; }

        public NameList Names { get; set; } = new();

        public int Next { get; set; }

        public void Close()
        {
            File?.Dispose();
            File = null;
        }
    }
}
