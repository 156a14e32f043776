using Microsoft.Win32.SafeHandles;

namespace Pandora.Vmm.Linux;

/// <summary>What the kernel tells of a file (statx(2)) and .NET does not.</summary>
/// <param name="Owner">User id.</param>
/// <param name="Mode">Type and permissions, as in <c>st_mode</c> (inode(7)).</param>
/// <param name="Inode">Its number on its file system.</param>
/// <param name="Device">The file system's number.</param>
/// <param name="Blocks">Space that it takes, in units of 512 bytes.</param>
public readonly record struct FileStatus(int Owner, int Mode, ulong Inode, ulong Device, long Blocks)
{
    private const int TypeMask = 0xF000, DirectoryType = 0x4000;

    /// <summary>Whether it is a directory, and no link to one.</summary>
    public bool IsDirectory => (Mode & TypeMask) == DirectoryType;

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
        return Libc.Status($"/proc/self/fd/{file.DangerousGetHandle()}", follow: true)
            ?? throw new IOException("an open file could not be looked at");
    }
}
