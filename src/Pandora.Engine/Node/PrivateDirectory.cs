using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>Directories that nobody but the server's own user may change: another user who can write there can put files of his own in the
/// place of records, keys and images.</summary>
internal static class PrivateDirectory
{
    private const int Everybody = 0x3F, OthersWrite = 0x12, Sticky = 0x200; // 077, 022, 01000

    /// <summary>Makes a directory that is the server's alone, or sees that it is. Permissions that are too wide are taken away, and it is
    /// said; what belongs to somebody else is refused.</summary>
    /// <param name="path">The directory.</param>
    /// <param name="mended">Told in a sentence what was changed.</param>
    /// <exception cref="StartupException">It belongs to somebody else, or is no directory.</exception>
    public static void Ensure(string path, Action<string> mended) => Ensure(path, Everybody, mended);

    /// <summary>The same for one that others may read.</summary>
    /// <exception cref="StartupException">It belongs to somebody else, or is no directory.</exception>
    public static void EnsureReadable(string path, Action<string> mended) => Ensure(path, OthersWrite, mended);

    private static void Ensure(string path, int forbidden, Action<string> mended)
    {
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        // The operator may have put a link there; what it leads to is what counts. A link of another user's is not followed.
        if (FileStatus.Find(path) is { } entry && !IsOurs(entry))
        {
            throw new StartupException(
                $"{path} belongs to user {entry.Owner}, who could change what the server keeps there: see that nothing in it is that "
                    + $"user's, then 'chown -h root:root {path}', or name another directory");
        }

        if (FileStatus.FindTarget(path) is not { IsDirectory: true } found)
        {
            throw new StartupException($"{path} is no directory: move it away, or name another");
        }

        if ((found.Mode & Sticky) != 0)
        {
            throw new StartupException(
                $"{path} is a directory that many users share (mode {Convert.ToString(found.Mode & 0xFFF, 8)}): name one in it that "
                    + "is the server's alone");
        }

        if (!IsOurs(found))
        {
            throw new StartupException(
                $"{path} belongs to user {found.Owner}, who could change what the server keeps there: see that nothing in it is that "
                    + $"user's, then 'chown root:root {path}', or name another directory");
        }

        if ((found.Mode & forbidden) != 0)
        {
            File.SetUnixFileMode(path, (UnixFileMode)(found.Mode & 0xFFF & ~forbidden));
            var access = forbidden == Everybody ? "read or changed" : "changed";
            mended(
                $"{path} could be {access} by other users (mode {Convert.ToString(found.Mode & 0x1FF, 8)}): that was taken from them. "
                    + "See that nothing in it is theirs");
        }
    }

    private static bool IsOurs(FileStatus file) => file.Owner == 0 || file.Owner == FileStatus.FindTarget("/proc/self")?.Owner;
}
