using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>What the kernel tells of a file (statx(2)) and .NET does not.</summary>
/// <param name="Owner">User id.</param>
/// <param name="Mode">Type and permissions, as in <c>st_mode</c> (inode(7)).</param>
/// <param name="Names">How many names it has.</param>
/// <param name="Inode">Its number on its file system.</param>
/// <param name="Device">The file system's number.</param>
/// <param name="Blocks">Space that it takes, in units of 512 bytes.</param>
public readonly record struct FileStatus(int Owner, int Mode, uint Names, ulong Inode, ulong Device, long Blocks)
{
    private const int TypeMask = 0xF000;

    /// <summary>Whether it is a directory, and no link to one.</summary>
    public bool IsDirectory => (Mode & TypeMask) == 0x4000;

    /// <summary>Whether it is a regular file.</summary>
    public bool IsRegular => (Mode & TypeMask) == 0x8000;

    /// <summary>Whether it is a socket.</summary>
    public bool IsSocket => (Mode & TypeMask) == 0xC000;

    /// <summary>Looks at a file; a link is looked at itself.</summary>
    /// <returns>Null when there is none.</returns>
    /// <exception cref="IOException">It could not be looked at.</exception>
    public static FileStatus? Find(string path) => Libc.Status(path, follow: false);

    /// <summary>Looks at a file, or at what a link leads to.</summary>
    /// <returns>Null when there is none.</returns>
    /// <exception cref="IOException">It could not be looked at.</exception>
    public static FileStatus? FindTarget(string path) => Libc.Status(path, follow: true);

    /// <summary>Looks at an open file.</summary>
    /// <exception cref="IOException">It could not be looked at.</exception>
    public static FileStatus Of(SafeFileHandle file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return Libc.Status(PathOf(file), follow: true) ?? throw new IOException("an open file could not be looked at");
    }

    /// <summary>A path that leads to an open file, whatever has its name by now (proc_pid_fd(5)).</summary>
    internal static string PathOf(SafeHandle file) => $"/proc/self/fd/{file.DangerousGetHandle()}";
}
