using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Protocol.Files;

/// <summary>Options of a request that are set or not.</summary>
[Flags]
internal enum FileOptions
{
    /// <summary>None.</summary>
    None = 0,

    /// <summary>Show: the file that a link leads to, instead of the link.</summary>
    FollowLinks = 1,

    /// <summary>Delete, copy: a directory with what is in it. Watch: the directories below, too.</summary>
    Recursive = 2,

    /// <summary>Write, unpack, make a directory, move, copy: directories on the way that are missing are made, as the user. A directory
    /// that is to be made may exist.</summary>
    MakeParents = 4,

    /// <summary>Move, copy: a file at the target is replaced.</summary>
    Replace = 8,

    /// <summary>Write, unpack: blocks of zeros become holes.</summary>
    Sparse = 16,

    /// <summary>Entries have the file's extended attributes; write: the file gets those of the request. Agents of an older Pandora do not
    /// know it.</summary>
    Attributes = 32,
}

/// <summary>Body of <see cref="FileMessage.Request"/>.</summary>
/// <param name="Operation">What is asked for.</param>
/// <param name="Path">The file, as bytes without NUL; relative to the user's home when it does not begin with a slash.</param>
internal sealed record FileRequest(FileOperation Operation, byte[] Path)
{
    /// <summary>Value of <see cref="Mode"/> for none.</summary>
    public const int NoMode = -1;

    /// <summary>Most bytes of a path: the kernel's PATH_MAX without the NUL.</summary>
    public const int MaxPath = 4095;

    /// <summary>Most entries that one list returns.</summary>
    public const int MaxListed = 10_000;

    /// <summary>Most levels of directories that a list goes down.</summary>
    public const int MaxDepth = 64;

    /// <summary>The target of a move or a copy, as <see cref="Path"/>.</summary>
    public byte[] Target { get; init; } = [];

    /// <summary>User whose rights apply, a name or a number; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Options.</summary>
    public FileOptions Options { get; init; }

    /// <summary>Write, make a directory: the permission bits, 0 to 07777. <see cref="NoMode"/> keeps those of the file that is replaced;
    /// a new file has 0644, a new directory 0755.</summary>
    public int Mode { get; init; } = NoMode;

    /// <summary>Write, make a directory, unpack: who owns what is made: <c>user</c>, <c>user:group</c> or <c>:group</c>, names or numbers.
    /// Null for the owner of the file that is replaced, or else the user.</summary>
    public string? Owner { get; init; }

    /// <summary>Write: when the file was last changed, in nanoseconds since 1970; null for now.</summary>
    public long? ModifiedAt { get; init; }

    /// <summary>Read: the first byte; a negative number counts from the end.</summary>
    public long Offset { get; init; }

    /// <summary>Read: most bytes; -1 for all. With 0 the file is opened, and only its entry is answered.</summary>
    public long Length { get; init; } = -1;

    /// <summary>List: levels of directories, 1 to <see cref="MaxDepth"/>.</summary>
    public int Depth { get; init; } = 1;

    /// <summary>List: most entries, 1 to <see cref="MaxListed"/>.</summary>
    public int Limit { get; init; } = MaxListed;

    /// <summary>List: the entries after this one, whose path is relative to the directory; empty for the first ones.</summary>
    public byte[] After { get; init; } = [];

    /// <summary>Write: null for no condition, "*" when the file must exist, "" when it must not exist, else the
    /// <see cref="FileEntry.Tag"/> that it must have. It is checked before the first byte is taken, and again before the file takes its
    /// place.</summary>
    public string? Condition { get; init; }

    /// <summary>Write: names, which begin with <c>user.</c>, and values of the file's extended attributes, by turns. Sent only with
    /// <see cref="FileOptions.Attributes"/>.</summary>
    public IReadOnlyList<string> Attributes { get; init; } = [];

    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var body = new BodyWriter().Number((byte)Operation).Bytes(Path).Bytes(Target).Text(User).Number((int)Options)
            .Number(Mode).Text(Owner).Number(ModifiedAt is null ? 0 : 1).Number(ModifiedAt ?? 0).Number(Offset).Number(Length)
            .Number(Depth).Number(Limit).Bytes(After).Text(Condition);
        return (Options.HasFlag(FileOptions.Attributes) ? body.Texts(Attributes) : body).ToArray();
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">It is no such body.</exception>
    public static FileRequest Decode(ReadOnlySpan<byte> body)
    {
        var reader = new BodyReader(body);
        var operation = (FileOperation)reader.Number((int)FileOperation.Show, (int)FileOperation.Watch);
        var request = new FileRequest(operation, reader.Bytes())
        {
            Target = reader.Bytes(),
            User = reader.Text(),
            Options = (FileOptions)reader.Number(0, 63),
            Mode = reader.Number(NoMode, 0xFFF),
            Owner = reader.Text(),
            ModifiedAt = Optional(ref reader),
            Offset = reader.Number(),
            Length = reader.Number() is var length and >= -1 ? length : throw new FormatException("a length below -1"),
            Depth = reader.Number(1, MaxDepth),
            Limit = reader.Number(1, MaxListed),
            After = reader.Bytes(),
            Condition = reader.Text(),
        };
        if (request.Options.HasFlag(FileOptions.Attributes))
        {
            request = request with { Attributes = reader.Texts() };
        }

        reader.End();
        return request;
    }

    private static long? Optional(ref BodyReader reader)
    {
        var (isGiven, value) = (reader.Number(0, 1) == 1, reader.Number());
        return isGiven ? value : null;
    }
}
