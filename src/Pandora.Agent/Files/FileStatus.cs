using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>What the kernel knows of a file.</summary>
/// <param name="FullMode">Type and permission bits.</param>
/// <param name="User">Owner.</param>
/// <param name="Group">Group.</param>
/// <param name="Inode">Number of its inode.</param>
/// <param name="Filesystem">Number of the device that the inode is on.</param>
/// <param name="Links">Number of its names.</param>
/// <param name="Size">Bytes.</param>
/// <param name="ModifiedAt">When its content was last changed, in nanoseconds since 1970.</param>
/// <param name="ChangedAt">When it was last changed in any way, in nanoseconds since 1970.</param>
/// <param name="Device">The number of the device that the file is.</param>
internal readonly record struct FileStatus(uint FullMode, uint User, uint Group, ulong Inode, ulong Filesystem, uint Links, long Size,
    long ModifiedAt, long ChangedAt, ulong Device)
{
    /// <summary>The type bits of a FIFO's mode.</summary>
    public const uint FifoType = 0x1000;

    /// <summary>Its kind.</summary>
    public FileKind Kind => (FullMode & 0xF000) switch
    {
        FifoType => FileKind.Fifo,
        0x2000 => FileKind.CharacterDevice,
        0x4000 => FileKind.Directory,
        0x6000 => FileKind.BlockDevice,
        0x8000 => FileKind.File,
        0xA000 => FileKind.Link,
        0xC000 => FileKind.Socket,
        _ => FileKind.Other,
    };

    /// <summary>The permission bits.</summary>
    public uint Mode => FullMode & 0xFFF;

    /// <summary>Whether both are the same file.</summary>
    public bool IsSame(in FileStatus other) => Inode == other.Inode && Filesystem == other.Filesystem;

    /// <summary>Reads a struct statx.</summary>
    public static unsafe FileStatus Of(byte* found) => new(
        *(ushort*)(found + 28), *(uint*)(found + 20), *(uint*)(found + 24), *(ulong*)(found + 32),
        Number(*(uint*)(found + 136), *(uint*)(found + 140)), *(uint*)(found + 16), *(long*)(found + 40),
        Time(found + 112), Time(found + 96), Number(*(uint*)(found + 128), *(uint*)(found + 132)));

    // The form of dev_t that mknod(2) takes.
    private static ulong Number(uint major, uint minor) =>
        (minor & 0xFF) | ((major & 0xFFF) << 8) | ((ulong)(minor & ~0xFFu) << 12) | ((ulong)(major & ~0xFFFu) << 32);

    // Times that do not fit, before 1677 and after 2262, become the nearest that does.
    private static unsafe long Time(byte* time)
    {
        var nanoseconds = ((Int128)(*(long*)time) * 1_000_000_000) + *(uint*)(time + 8);
        return (long)Int128.Clamp(nanoseconds, long.MinValue, long.MaxValue);
    }
}
