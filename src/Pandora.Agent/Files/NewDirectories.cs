namespace Pandora.Agent.Files;

/// <summary>Makes the directories on the way to a file that are missing, and removes them again when the request fails.</summary>
internal sealed class NewDirectories : IDisposable
{
    private readonly List<(OpenFile Parent, byte[] Name)> _made = [];
    private bool _isKept;

    /// <summary>Makes the directories of a path. Links on the way are followed.</summary>
    /// <param name="path">An absolute path. Its last name is not made.</param>
    /// <param name="owner">Who owns them; null for the user.</param>
    /// <exception cref="FileFailedException">One could not be made.</exception>
    public void Make(byte[] path, FileOwner? owner)
    {
        var (directory, _) = FilePath.Split(path);
        var at = OpenFile.At(FileCalls.NoDirectory, "/"u8, FileCalls.PathOnly | FileCalls.OnlyDirectory);
        try
        {
            foreach (var range in directory.AsSpan().Split((byte)'/'))
            {
                var name = directory.AsSpan()[range];
                if (name.IsEmpty)
                {
                    continue;
                }

                var made = FileCalls.MakeDirectory(at.Descriptor, name, 0x1C0 /* 0700 */);
                // A name that is there, a directory that the user may only pass, or a read-only filesystem: the next step tells.
                var next = OpenFile.At(at.Descriptor, name,
                    FileCalls.PathOnly | FileCalls.OnlyDirectory | (made >= 0 ? FileCalls.NoLink : 0), path);
                if (made >= 0)
                {
                    _made.Add((at, name.ToArray()));
                    at = next;
                    SetUp(at.Descriptor, owner, 0x1ED /* 0755 */, path);
                }
                else
                {
                    at.Dispose();
                    at = next;
                }
            }
        }
        finally
        {
            at.Dispose();
        }
    }

    /// <summary>Makes the directory of a place. One whose owner or permission bits cannot be set is not left.</summary>
    /// <exception cref="FileFailedException">It could not be made.</exception>
    public static OpenFile MakeAt(FilePlace place, FileOwner? owner, uint mode)
    {
        FileFailedException.Check(FileCalls.MakeDirectory(place.Directory, place.Name, 0x1C0 /* 0700 */), place.Path);
        OpenFile? made = null;
        try
        {
            made = OpenFile.At(
                place.Directory, place.Name, FileCalls.PathOnly | FileCalls.OnlyDirectory | FileCalls.NoLink, place.Path);
            SetUp(made.Descriptor, owner, mode, place.Path);
            return made;
        }
        catch
        {
            made?.Dispose();
            FileCalls.Remove(place.Directory, place.Name, isDirectory: true);
            throw;
        }
    }

    /// <summary>Sets the owner and the permission bits of a directory that was made.</summary>
    public static void SetUp(int directory, FileOwner? owner, uint mode, ReadOnlySpan<byte> path)
    {
        if (owner is { } given)
        {
            FileFailedException.Check(FileCalls.ChangeOwner(directory, given.User, given.Group), path);
        }

        FileFailedException.Check(FileCalls.ChangeMode(directory, mode), path);
    }

    /// <summary>Keeps what was made.</summary>
    public void Keep() => _isKept = true;

    public void Dispose()
    {
        for (var i = _made.Count - 1; i >= 0; i--)
        {
            if (!_isKept)
            {
                // One that is used meanwhile is not empty, and stays.
                FileCalls.Remove(_made[i].Parent.Descriptor, _made[i].Name, isDirectory: true);
            }

            _made[i].Parent.Dispose();
        }

        _made.Clear();
    }
}
