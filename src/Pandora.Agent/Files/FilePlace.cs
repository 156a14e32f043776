using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>A name in an open directory: where a file is, or is to be.</summary>
/// <param name="directory">Descriptor of the directory, which is closed with this.</param>
/// <param name="name">The name.</param>
/// <param name="path">The path for messages and clients.</param>
internal sealed class FilePlace(int directory, byte[] name, byte[] path) : IDisposable
{
    private const int MostLinks = 40;

    /// <summary>Descriptor of the directory.</summary>
    public int Directory => directory;

    /// <summary>The name: not empty, and neither "." nor "..".</summary>
    public byte[] Name => name;

    /// <summary>The path for messages and clients.</summary>
    public byte[] Path => path;

    /// <summary>Finds the place of a path, whose last name may be missing, or a link, which is not followed.</summary>
    /// <exception cref="FileFailedException">The directory could not be opened, or the path ends with no name.</exception>
    public static FilePlace Of(byte[] path, string use) => Of(FileCalls.NoDirectory, path, path, use);

    /// <summary>Finds the place of the file that a path leads to; the links at its end are followed.</summary>
    /// <exception cref="FileFailedException">A directory could not be opened, or the path ends with no name.</exception>
    public static FilePlace Follow(byte[] path, string use)
    {
        Span<byte> target = stackalloc byte[FileRequest.MaxPath + 1];
        var place = Of(path, use);
        for (var links = 0; ; links++)
        {
            var length = FileCalls.ReadLink(place.Directory, place.Name, target);
            if (length < 0)
            {
                return place;
            }

            using var before = place;
            if (links == MostLinks)
            {
                throw FileFailedException.Of(FileCalls.TooManyLinks, path);
            }

            CheckFollowed(place);
            place = Of(place.Directory, target[..length].ToArray(), path, use);
        }
    }

    /// <summary>Reads what is known of the file at the place.</summary>
    /// <returns>False when there is none.</returns>
    public bool TryStatus(out FileStatus status)
    {
        var result = FileCalls.Status(Directory, Name, FileCalls.NoFollow, out status);
        return result != FileCalls.NoEntry && FileFailedException.Check(result, Path) >= 0;
    }

    public void Dispose() => Linux.Close(directory);

    private static FilePlace Of(int from, byte[] target, byte[] path, string use)
    {
        var (parent, name) = FilePath.Split(target);
        if (name.Length == 0 || FilePath.IsDots(name))
        {
            FileFailedException.ThrowKind(path, $"is a directory, which cannot be {use}");
        }

        var directory = FileCalls.Open(from, parent, FileCalls.PathOnly | FileCalls.OnlyDirectory);
        return new FilePlace(FileFailedException.Check(directory, path), name, path);
    }

    // The kernel's own rule (fs.protected_symlinks in proc(5)): in a directory where everyone may make files, a link is followed only when
    // it is of the user, or of the directory's owner.
    private static void CheckFollowed(FilePlace place)
    {
        const uint StickyAndShared = 0x202;
        FileFailedException.Check(FileCalls.Status(place.Directory, out var directory), place.Path);
        FileFailedException.Check(FileCalls.Status(place.Directory, place.Name, FileCalls.NoFollow, out var link), place.Path);
        if ((directory.Mode & StickyAndShared) == StickyAndShared && link.User != Identity.Current && link.User != directory.User)
        {
            throw FileFailedException.Of(FileCalls.Denied, place.Path);
        }
    }
}
