using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>How to read a file.</summary>
public sealed record ReadFileOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Offset of the first byte, zero or more. Default: 0.</summary>
    public long Offset { get; init; }

    /// <summary>Most bytes to read, one or more; null reads to the end. Default: null.</summary>
    public long? Count { get; init; }
}

/// <summary>How to write a file.</summary>
public sealed record WriteFileOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Permission bits. Default: those of the file that is replaced, or 0644.</summary>
    public UnixFileMode? Mode { get; init; }

    /// <summary>Who owns it: <c>user</c>, <c>user:group</c> or <c>:group</c>. Default: the user, or who owns the file that is
    /// replaced.</summary>
    public string? Owner { get; init; }

    /// <summary>Whether the directories on the way are made. Default: true.</summary>
    public bool MakesParents { get; init; } = true;

    /// <summary>Whether blocks of zeros become holes, which take no room on the disk. Default: false.</summary>
    public bool IsSparse { get; init; }

    /// <summary>When its content was last changed; null is now.</summary>
    public DateTimeOffset? ModifiedAt { get; init; }

    /// <summary>Writes only when the file has this <see cref="FileDetails.ETag"/>; <c>*</c> is any. Else the code is
    /// <c>file_precondition</c>. Default: null, always.</summary>
    public string? IfMatch { get; init; }

    /// <summary>Writes only when there is no file yet; else the code is <c>file_precondition</c>. Default: false.</summary>
    public bool MustNotExist { get; init; }
}

/// <summary>How to list files.</summary>
public sealed record ListFilesOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Levels of directories, 1 to <see cref="Limits.MaxListDepth"/>. Default: 1, the directory's own entries.</summary>
    public int Depth { get; init; } = 1;

    /// <summary>Entries of one request, 1 to <see cref="Limits.MaxListedFiles"/>; null is <see cref="Limits.DefaultListedFiles"/>. The
    /// list is whole with any.</summary>
    public int? PageSize { get; init; }
}

/// <summary>How to make a directory.</summary>
public sealed record MakeDirectoryOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Permission bits. Default: 0755.</summary>
    public UnixFileMode? Mode { get; init; }

    /// <summary>Who owns it: <c>user</c>, <c>user:group</c> or <c>:group</c>. Default: the user.</summary>
    public string? Owner { get; init; }

    /// <summary>Whether the directories on the way are made, and a directory that is there is accepted. Default: true.</summary>
    public bool MakesParents { get; init; } = true;
}

/// <summary>How to move or copy a file within the sandbox.</summary>
public sealed record MoveFileOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Whether a file that is there is replaced. A directory never is. Default: false.</summary>
    public bool Replaces { get; init; }

    /// <summary>Whether the directories on the way to the target are made. Default: true.</summary>
    public bool MakesParents { get; init; } = true;

    /// <summary>For a copy: whether a directory is copied with all that is in it. Default: false.</summary>
    public bool IsRecursive { get; init; }
}

/// <summary>An event of a watch.</summary>
/// <param name="Name">One of <see cref="FileEvents"/>; <c>error</c> and <c>heartbeat</c> are not shown.</param>
/// <param name="Path">The file, relative to the watched directory; null where no file is meant.</param>
/// <param name="Target">With <c>moved</c>, where it is now, relative to the watched directory.</param>
/// <param name="IsDirectory">Whether it is a directory.</param>
public sealed record SandboxFileEvent(string Name, string? Path = null, string? Target = null, bool IsDirectory = false);
