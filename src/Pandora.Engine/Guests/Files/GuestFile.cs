namespace Pandora.Engine.Guests.Files;

/// <summary>Kinds of files.</summary>
public enum GuestFileKind
{
    /// <summary>None of the others.</summary>
    Other = 0,

    /// <summary>A regular file.</summary>
    File = 1,

    /// <summary>A directory.</summary>
    Directory = 2,

    /// <summary>A symbolic link.</summary>
    Link = 3,

    /// <summary>A FIFO.</summary>
    Fifo = 4,

    /// <summary>A socket.</summary>
    Socket = 5,

    /// <summary>A character device.</summary>
    CharacterDevice = 6,

    /// <summary>A block device.</summary>
    BlockDevice = 7,
}

/// <summary>A file of a guest, as the guest describes it.</summary>
/// <param name="Path">Its absolute path, at most 64 KiB.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Tag">A text of ASCII letters, digits and hyphens that differs between two states of the file.</param>
public sealed record GuestFile(byte[] Path, GuestFileKind Kind, string Tag)
{
    /// <summary>Bytes, at least 0.</summary>
    public long Size { get; init; }

    /// <summary>The permission bits, 0 to 07777.</summary>
    public int Mode { get; init; }

    /// <summary>Number of the owner.</summary>
    public uint UserId { get; init; }

    /// <summary>Number of the group.</summary>
    public uint GroupId { get; init; }

    /// <summary>Name of the owner, at most 300 characters; null when the guest has none.</summary>
    public string? User { get; init; }

    /// <summary>Name of the group, at most 300 characters; null when the guest has none.</summary>
    public string? Group { get; init; }

    /// <summary>When its content was last changed, by the guest's clock.</summary>
    public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>What a link contains; empty for other kinds.</summary>
    public byte[] LinkTarget { get; init; } = [];

    /// <summary>Its extended attributes whose names begin with <c>user.</c> and whose values are text; null when they were not asked
    /// for.</summary>
    public IReadOnlyDictionary<string, string>? Attributes { get; init; }
}

/// <summary>How a request was done.</summary>
/// <param name="IsCreated">Whether the file or directory is new.</param>
/// <param name="Bytes">Bytes of content that were read or written.</param>
/// <param name="Entries">Files, directories and links that were read, written or deleted.</param>
/// <param name="Omitted">Files that an archive leaves out: sockets, devices, and those that the user may not read.</param>
/// <param name="HasMore">Whether a list goes on.</param>
public sealed record FileOutcome(bool IsCreated, long Bytes, long Entries, long Omitted, bool HasMore);

/// <summary>What a guest answered to a request that is not streamed.</summary>
/// <param name="Files">The files.</param>
/// <param name="Outcome">How the request was done.</param>
public sealed record FileAnswer(IReadOnlyList<GuestFile> Files, FileOutcome Outcome);

/// <summary>Kinds of changes below a watched directory.</summary>
public enum FileChangeKind
{
    /// <summary>The watch has begun.</summary>
    Started = 0,

    /// <summary>A file was made, or moved here from outside.</summary>
    Created = 1,

    /// <summary>A file's content was changed.</summary>
    Modified = 2,

    /// <summary>A file's owner, mode, times or links were changed.</summary>
    Attributes = 3,

    /// <summary>A file was deleted, or moved away.</summary>
    Deleted = 4,

    /// <summary>A file was moved within the watched directories.</summary>
    Moved = 5,

    /// <summary>Changes were lost.</summary>
    Lost = 6,

    /// <summary>The watched directory itself was deleted or moved.</summary>
    Gone = 7,
}

/// <summary>A change below a watched directory.</summary>
/// <param name="Kind">What happened.</param>
/// <param name="Path">The file, relative to the watched directory; empty where no file is meant.</param>
/// <param name="Target">Where it was moved to, relative to the watched directory; else empty.</param>
/// <param name="IsDirectory">Whether it is a directory.</param>
public sealed record GuestFileChange(FileChangeKind Kind, byte[] Path, byte[] Target, bool IsDirectory);
