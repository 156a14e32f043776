using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>The status of a file, as the kernel reports it (statx(2)) and .NET does not.</summary>
/// <param name="Owner">User id.</param>
/// <param name="Mode">Type and permissions, as in <c>st_mode</c> (inode(7)).</param>
/// <param name="Names">Number of names (hard links).</param>
/// <param name="Inode">Number of the file in its file system.</param>
/// <param name="Device">Number of the file system.</param>
/// <param name="Blocks">Space on the disk, in units of 512 bytes.</param>
public readonly record struct FileStatus(int Owner, int Mode, uint Names, ulong Inode, ulong Device, long Blocks)
{
    private const int TypeMask = 0xF000;

    /// <summary>Whether it is a directory.</summary>
    public bool IsDirectory => (Mode & TypeMask) == 0x4000;

    /// <summary>Whether it is a regular file.</summary>
    public bool IsRegular => (Mode & TypeMask) == 0x8000;

    /// <summary>Whether it is a socket.</summary>
    public bool IsSocket => (Mode & TypeMask) == 0xC000;

    /// <summary>Reads the status of a file; of a link, the status of the link itself.</summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="IOException">The status could not be read.</exception>
    public static FileStatus? Find(string path) => Libc.Status(path, follow: false);

    /// <summary>Reads the status of a file; of a link, the status of the file that the link leads to.</summary>
    /// <returns>Null when there is no such file.</returns>
    /// <exception cref="IOException">The status could not be read.</exception>
    public static FileStatus? FindTarget(string path) => Libc.Status(path, follow: true);

    /// <summary>Reads the status of an open file.</summary>
    /// <exception cref="IOException">The status could not be read.</exception>
    public static FileStatus Of(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return Libc.Status(PathOf(file), follow: true) ?? throw new IOException("the status of an open file could not be read");
    }

    /// <summary>Whether a path names an open file; of a link, the link itself.</summary>
    /// <exception cref="IOException">The status could not be read.</exception>
    public static bool IsSame(string path, SafeFileHandle file)
    {
        var opened = Of(file);
        return Find(path) is { } found && (found.Device, found.Inode) == (opened.Device, opened.Inode);
    }

    /// <summary>Returns a path that leads to an open file, even if another file has its name by now (proc_pid_fd(5)).</summary>
    internal static string PathOf(SafeHandle file) => $"/proc/self/fd/{file.DangerousGetHandle()}";
}
