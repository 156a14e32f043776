namespace Pandora.Engine.Guests.Files;

/// <summary>What a request for files asks a guest for.</summary>
public enum FileAction
{
    /// <summary>Show a file: one <see cref="GuestFile"/>.</summary>
    Show = 1,

    /// <summary>Read a regular file: one <see cref="GuestFile"/>, then bytes.</summary>
    Read = 2,

    /// <summary>Write a regular file, which takes its place when all bytes have come: one <see cref="GuestFile"/>.</summary>
    Write = 3,

    /// <summary>Delete a file or a directory. A link is deleted itself.</summary>
    Delete = 4,

    /// <summary>Make a directory: one <see cref="GuestFile"/>.</summary>
    MakeDirectory = 5,

    /// <summary>Move a file or a directory: one <see cref="GuestFile"/>, the target.</summary>
    Move = 6,

    /// <summary>Copy a file or a directory: one <see cref="GuestFile"/>, the target.</summary>
    Copy = 7,

    /// <summary>List a directory: many <see cref="GuestFile"/>.</summary>
    List = 8,

    /// <summary>Read a directory, or one file, as a tar archive: bytes.</summary>
    Pack = 9,

    /// <summary>Write the files of a tar archive into a directory.</summary>
    Unpack = 10,

    /// <summary>Watch a directory: a <see cref="GuestFileChange"/> for each change.</summary>
    Watch = 11,
}

/// <summary>A request for files of a guest.</summary>
/// <param name="Action">What is asked for.</param>
/// <param name="Path">The file: 1 to 4095 bytes without NUL; relative to the user's home when it does not begin with a slash.</param>
public sealed record FileSpec(FileAction Action, byte[] Path)
{
    /// <summary>Where a file that is moved or copied is then, as <see cref="Path"/>.</summary>
    public byte[] Target { get; init; } = [];

    /// <summary>User whose rights apply, a name or a number; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Show: whether the file that a link leads to is meant.</summary>
    public bool FollowsLinks { get; init; }

    /// <summary>Delete, copy: whether a directory is meant with what is in it. Watch: whether the directories below are
    /// watched, too.</summary>
    public bool IsRecursive { get; init; }

    /// <summary>Whether directories on the way that are missing are made; a directory that is to be made may then exist.</summary>
    public bool MakesParents { get; init; }

    /// <summary>Move, copy: whether a file at the target is replaced.</summary>
    public bool Replaces { get; init; }

    /// <summary>Write, unpack: whether blocks of zeros become holes.</summary>
    public bool IsSparse { get; init; }

    /// <summary>Write, make a directory: the permission bits, 0 to 07777; null for those of the file that is replaced, or the usual
    /// ones.</summary>
    public int? Mode { get; init; }

    /// <summary>Write, make a directory, unpack: who owns what is made, as <c>user</c>, <c>user:group</c> or <c>:group</c>; null for the
    /// owner of the file that is replaced, or the user.</summary>
    public string? Owner { get; init; }

    /// <summary>Write: when the file was last changed, in nanoseconds since 1970; null for now.</summary>
    public long? ModifiedAt { get; init; }

    /// <summary>Read: the first byte; a negative number counts from the end.</summary>
    public long Offset { get; init; }

    /// <summary>Read: most bytes; null for all. With 0 only the <see cref="GuestFile"/> is answered.</summary>
    public long? Length { get; init; }

    /// <summary>List: levels of directories, 1 to 64.</summary>
    public int Depth { get; init; } = 1;

    /// <summary>List: most entries, 1 to 10,000.</summary>
    public int Limit { get; init; } = 1000;

    /// <summary>List: the entries after this one, whose path is relative to the directory; empty for the first ones.</summary>
    public byte[] After { get; init; } = [];

    /// <summary>Write: null for no condition, "*" when the file must exist, "" when it must not exist, else the
    /// <see cref="GuestFile.Tag"/> that it must have.</summary>
    public string? Condition { get; init; }

    /// <summary>Whether each <see cref="GuestFile"/> has the file's extended attributes.</summary>
    public bool WithAttributes { get; init; }

    /// <summary>Write, with <see cref="WithAttributes"/>: the extended attributes that the file has from then on, at most 4 KiB with their
    /// names, which begin with <c>user.</c>. Those of the file that is replaced go with it.</summary>
    public IReadOnlyDictionary<string, string> Attributes { get; init; } = new Dictionary<string, string>();

    /// <summary>Whether the server sends bytes.</summary>
    internal bool HasBody => Action is FileAction.Write or FileAction.Unpack;

    /// <summary>Whether the guest answers with one file at least.</summary>
    internal bool HasFile => Action
        is not (FileAction.Delete or FileAction.List or FileAction.Pack or FileAction.Unpack or FileAction.Watch);
}
