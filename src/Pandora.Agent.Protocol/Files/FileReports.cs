using System.Globalization;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Protocol.Files;

/// <summary>Kinds of files: what the type bits of their mode say.</summary>
internal enum FileKind : byte
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

/// <summary>One file: body of <see cref="FileMessage.Entry"/>.</summary>
/// <param name="Path">Its absolute path, as it was found: links on the way are not resolved. In a list it begins with the path of the
/// request made absolute.</param>
/// <param name="Kind">Its kind.</param>
internal sealed record FileEntry(byte[] Path, FileKind Kind)
{
    /// <summary>Bytes.</summary>
    public long Size { get; init; }

    /// <summary>The permission bits, 0 to 07777.</summary>
    public int Mode { get; init; }

    /// <summary>Number of the owner.</summary>
    public uint UserId { get; init; }

    /// <summary>Number of the group.</summary>
    public uint GroupId { get; init; }

    /// <summary>Name of the owner by the guest's <c>/etc/passwd</c>; null when it has none.</summary>
    public string? User { get; init; }

    /// <summary>Name of the group by the guest's <c>/etc/group</c>; null when it has none.</summary>
    public string? Group { get; init; }

    /// <summary>When its content was last changed, in nanoseconds since 1970.</summary>
    public long ModifiedAt { get; init; }

    /// <summary>When it was last changed in any way, in nanoseconds since 1970.</summary>
    public long ChangedAt { get; init; }

    /// <summary>Number of its inode.</summary>
    public ulong Inode { get; init; }

    /// <summary>What a link contains; empty for other kinds.</summary>
    public byte[] LinkTarget { get; init; } = [];

    /// <summary>Names and values of its extended attributes, by turns; null when the request did not ask for them.</summary>
    public IReadOnlyList<string>? Attributes { get; init; }

    /// <summary>A text that differs between two states of the file.</summary>
    public string Tag => string.Create(CultureInfo.InvariantCulture, $"{Inode:x}-{Size:x}-{ModifiedAt:x}-{ChangedAt:x}");

    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var body = new BodyWriter().Bytes(Path).Number((byte)Kind).Number(Size).Number(Mode).Number(UserId).Number(GroupId)
            .Text(User).Text(Group).Number(ModifiedAt).Number(ChangedAt).Number((long)Inode).Bytes(LinkTarget);
        return (Attributes is null ? body : body.Texts(Attributes)).ToArray();
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FileEntry Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var entry = new FileEntry(reader.Bytes(), (FileKind)reader.Number(0, (int)FileKind.BlockDevice))
        {
            Size = Math.Max(0, reader.Number()),
            Mode = reader.Number(0, 0xFFF),
            UserId = (uint)reader.Number(),
            GroupId = (uint)reader.Number(),
            User = reader.Text(),
            Group = reader.Text(),
            ModifiedAt = reader.Number(),
            ChangedAt = reader.Number(),
            Inode = (ulong)reader.Number(),
            LinkTarget = reader.Bytes(),
        };
        if (!reader.Rest.IsEmpty)
        {
            entry = entry with { Attributes = reader.Texts() };
        }

        reader.End();
        return entry;
    }
}

/// <summary>How a request was done: body of <see cref="FileMessage.Done"/>.</summary>
/// <param name="IsCreated">Whether the file or directory is new; false when it was there before.</param>
/// <param name="Bytes">Bytes of content that were read or written.</param>
/// <param name="Entries">Files, directories and links that were read, written or deleted.</param>
/// <param name="Omitted">Pack: sockets and devices, which an archive does not have, and files that the user may not read.</param>
/// <param name="HasMore">List: whether more entries follow the last one.</param>
internal sealed record FileResult(bool IsCreated = false, long Bytes = 0, long Entries = 0, long Omitted = 0, bool HasMore = false)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() =>
        new BodyWriter().Number(IsCreated ? 1 : 0).Number(Bytes).Number(Entries).Number(Omitted).Number(HasMore ? 1 : 0).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FileResult Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var result = new FileResult(
            reader.Number(0, 1) == 1, reader.Number(), reader.Number(), reader.Number(), reader.Number(0, 1) == 1);
        reader.End();
        return result;
    }
}

/// <summary>What happened to a file below a watched directory.</summary>
internal enum FileChange : byte
{
    /// <summary>The watch has begun: an event follows for each change from now on. It has no path.</summary>
    Started = 0,

    /// <summary>It was made, or moved here from outside.</summary>
    Created = 1,

    /// <summary>Its content was changed.</summary>
    Modified = 2,

    /// <summary>Its owner, mode, times or links were changed.</summary>
    Attributes = 3,

    /// <summary>It was deleted, or moved away.</summary>
    Deleted = 4,

    /// <summary>It was moved within the watched directories.</summary>
    Moved = 5,

    /// <summary>Events were lost, because they came faster than they were read, or a directory could not be watched. It has no
    /// path.</summary>
    Lost = 6,

    /// <summary>The watched directory itself was deleted or moved: the last event.</summary>
    Gone = 7,
}

/// <summary>Body of <see cref="FileMessage.Event"/>.</summary>
/// <param name="Change">What happened.</param>
/// <param name="Path">The file, relative to the watched directory.</param>
/// <param name="Target">Where it was moved to, relative to the watched directory; empty for other changes.</param>
/// <param name="IsDirectory">Whether it is a directory.</param>
internal sealed record FileEvent(FileChange Change, byte[] Path, byte[] Target, bool IsDirectory)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number((byte)Change).Bytes(Path).Bytes(Target).Number(IsDirectory ? 1 : 0).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FileEvent Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var change = new FileEvent(
            (FileChange)reader.Number(0, (int)FileChange.Gone), reader.Bytes(), reader.Bytes(), reader.Number(0, 1) == 1);
        reader.End();
        return change;
    }
}

/// <summary>Kinds of failures of a request for files.</summary>
internal enum FileFailureKind : byte
{
    /// <summary>Another error of the guest's kernel.</summary>
    Guest = 0,

    /// <summary>The message is not one of the protocol.</summary>
    Protocol = 1,

    /// <summary>The guest has no such user or group.</summary>
    User = 2,

    /// <summary>There is no such file or directory.</summary>
    NotFound = 3,

    /// <summary>The user may not do it, or the filesystem is read-only.</summary>
    Denied = 4,

    /// <summary>There is a file already, or the directory is not empty.</summary>
    Exists = 5,

    /// <summary>It is not of the kind that the request is for, or is in use.</summary>
    WrongKind = 6,

    /// <summary>The disk, or the owner's quota, is full.</summary>
    Full = 7,

    /// <summary>The path cannot be one: a name or the path is too long, or it leads through too many links.</summary>
    Path = 8,

    /// <summary>The archive is damaged, or has an entry that leads out of the directory or is of a forbidden kind.</summary>
    Archive = 9,

    /// <summary>The condition of the request does not hold.</summary>
    Condition = 10,

    /// <summary>The guest has no room for another request.</summary>
    TooMany = 11,
}

/// <summary>Body of <see cref="FileMessage.Failed"/>.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Reason">The reason, for people. It names the file where it is not that of the request, and says what was done before
/// and stays.</param>
internal sealed record FileFailure(FileFailureKind Kind, string Reason)
{
    /// <summary>Writes the body.</summary>
    public byte[] Encode() => new BodyWriter().Number((byte)Kind).Text(Reason).ToArray();

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FileFailure Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var failure = new FileFailure((FileFailureKind)reader.Number(0, 255), reader.Text() ?? "");
        reader.End();
        return failure;
    }
}

/// <summary>Sizes of messages about files.</summary>
internal static class FileMessages
{
    /// <summary>Most bytes of a body: a request with its paths, or bytes of a file.</summary>
    public const int MaxBody = 64 * 1024;

    /// <summary>Writes a whole message.</summary>
    public static byte[] Encode(FileMessage kind, ReadOnlySpan<byte> body) => ProcessMessages.Encode((ProcessMessage)kind, body);

    /// <summary>Whether a message is one about files.</summary>
    public static bool IsFile(ProcessMessage kind) => (FileMessage)kind is >= FileMessage.Request and <= FileMessage.Event;
}
