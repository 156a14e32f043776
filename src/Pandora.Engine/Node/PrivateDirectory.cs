using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>
/// Checks directories that only the server's user may change. Another user who can write there could replace records, keys and images.
/// </summary>
internal static class PrivateDirectory
{
    private const int OthersAccess = 0x3F, OthersWrite = 0x12, Sticky = 0x200; // 077, 022, 01000

    /// <summary>
    /// Makes a directory that only the server's user can use, or checks an existing one. Permissions that are too wide are removed and
    /// reported.
    /// </summary>
    /// <param name="path">The directory.</param>
    /// <param name="repaired">Called with a sentence about what was changed.</param>
    /// <exception cref="StartupException">Another user owns the path, or it is not a directory.</exception>
    public static void Ensure(string path, Action<string> repaired) => Ensure(path, OthersAccess, repaired);

    /// <summary>Does the same for a directory that other users may read.</summary>
    /// <exception cref="StartupException">Another user owns the path, or it is not a directory.</exception>
    public static void EnsureReadable(string path, Action<string> repaired) => Ensure(path, OthersWrite, repaired);

    private static void Ensure(string path, int forbidden, Action<string> repaired)
    {
        Directory.CreateDirectory(path, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        // The path may be a link of the operator: then its target is checked. A link that another user owns is refused.
        if (FileStatus.Find(path) is { } entry && !IsOwnedByServer(entry))
        {
            throw new StartupException(
                $"{path} belongs to user {entry.Owner}, who could change what the server keeps there: check that no file in it "
                    + $"belongs to that user, then 'chown -h root:root {path}', or name another directory");
        }

        if (FileStatus.FindTarget(path) is not { IsDirectory: true } found)
        {
            throw new StartupException($"{path} is not a directory: move it away, or name another path");
        }

        if ((found.Mode & Sticky) != 0)
        {
            throw new StartupException(
                $"{path} is a directory that many users share (mode {Convert.ToString(found.Mode & 0xFFF, 8)}): name a directory in it "
                    + "that only the server uses");
        }

        if (!IsOwnedByServer(found))
        {
            throw new StartupException(
                $"{path} belongs to user {found.Owner}, who could change what the server keeps there: check that no file in it "
                    + $"belongs to that user, then 'chown root:root {path}', or name another directory");
        }

        if ((found.Mode & forbidden) != 0)
        {
            File.SetUnixFileMode(path, (UnixFileMode)(found.Mode & 0xFFF & ~forbidden));
            var access = forbidden == OthersAccess ? "read or changed" : "changed";
            repaired(
                $"{path} could be {access} by other users (mode {Convert.ToString(found.Mode & 0x1FF, 8)}): these permissions were "
                    + "removed. Check that no file in it belongs to them");
        }
    }

    private static bool IsOwnedByServer(FileStatus file) => file.Owner == 0 || file.Owner == FileStatus.FindTarget("/proc/self")?.Owner;
}
