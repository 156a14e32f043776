namespace Pandora.Agent.Files.Tar;

/// <summary>Kinds of entries that are read or written.</summary>
internal enum TarKind : byte
{
    File = (byte)'0',
    HardLink = (byte)'1',
    Link = (byte)'2',
    CharacterDevice = (byte)'3',
    BlockDevice = (byte)'4',
    Directory = (byte)'5',
    Fifo = (byte)'6',
}

/// <summary>One entry of an archive, without its content.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Name">Its name, as it stands in the archive.</param>
internal sealed record TarEntry(TarKind Kind, byte[] Name)
{
    /// <summary>What a link contains, or the name of the file that a hard link is another name of.</summary>
    public byte[] LinkName { get; init; } = [];

    /// <summary>Bytes of content.</summary>
    public long Size { get; init; }

    /// <summary>The permission bits.</summary>
    public uint Mode { get; init; }

    /// <summary>When it was last changed, in nanoseconds since 1970.</summary>
    public long ModifiedAt { get; init; }

    /// <summary>Number of the owner; it is written only.</summary>
    public uint UserId { get; init; }

    /// <summary>Number of the group; it is written only.</summary>
    public uint GroupId { get; init; }

    /// <summary>Name of the owner; it is written only.</summary>
    public string? User { get; init; }

    /// <summary>Name of the group; it is written only.</summary>
    public string? Group { get; init; }
}

/// <summary>Where the fields of a header are (POSIX.1-2017, pax, "ustar Interchange Format").</summary>
internal static class TarHeader
{
    public const int BlockSize = 512;

    public const int NameSize = 100, ModeAt = 100, UserAt = 108, GroupAt = 116, SizeAt = 124, TimeAt = 136, ChecksumAt = 148, KindAt = 156,
        LinkAt = 157, MagicAt = 257, UserNameAt = 265, GroupNameAt = 297, NameOfUserSize = 32, PrefixAt = 345, PrefixSize = 155;

    /// <summary>Bytes that fill the last block of a content.</summary>
    public static int PaddingOf(long size) => (int)((BlockSize - (size % BlockSize)) % BlockSize);
}
