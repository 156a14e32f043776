namespace Pandora.Client;

/// <summary>How to bring files into a sandbox.</summary>
public sealed record UploadOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>Who owns the files there: <c>user</c>, <c>user:group</c> or <c>:group</c>. Default: the user.</summary>
    public string? Owner { get; init; }

    /// <summary>For a single file: its permission bits there. Default: those of the local file.</summary>
    public UnixFileMode? Mode { get; init; }

    /// <summary>Whether blocks of zeros become holes, which take no room on the sandbox's disk. Default: true.</summary>
    public bool IsSparse { get; init; } = true;

    /// <summary>For a directory: whether it is sent compressed, which helps on a slow network. Default: false.</summary>
    public bool IsCompressed { get; init; }

    /// <summary>For a directory: whether to leave out what git ignores (<c>.gitignore</c> in it, in the directories below and above it up
    /// to the repository's root, <c>.git/info/exclude</c>), and <c>.git</c> itself. Files that git tracks all the same are left out, too.
    /// Default: false.</summary>
    public bool ExcludesIgnored { get; init; }

    /// <summary>For a directory: patterns as in a <c>.gitignore</c> of its root. What they name is left out. Default: none.</summary>
    public IReadOnlyList<string> Exclude { get; init; } = [];
}

/// <summary>How to take files out of a sandbox. What a sandbox sends is not trusted: see
/// <see cref="SandboxFiles.DownloadDirectoryAsync"/>.</summary>
public sealed record DownloadOptions
{
    /// <summary>User whose rights apply: a name, or a number. Default: root.</summary>
    public string? User { get; init; }

    /// <summary>For a directory: whether it is sent compressed, which helps on a slow network. Default: false.</summary>
    public bool IsCompressed { get; init; }

    /// <summary>Most bytes of content that are written, holes among them; zero or more. Default: 64 GiB.</summary>
    public long MaxBytes { get; init; } = 64L * 1024 * 1024 * 1024;

    /// <summary>For a directory: most entries that are taken; one or more. Default: 1,000,000.</summary>
    public long MaxEntries { get; init; } = 1_000_000;
}

/// <summary>How far a transfer is.</summary>
/// <param name="Bytes">Bytes of content so far.</param>
/// <param name="TotalBytes">Bytes of content of the whole transfer; null when they are not known.</param>
/// <param name="Files">Files that are done.</param>
/// <param name="Path">The file that is transferred, relative to the directory; null before the first and after the last.</param>
public sealed record TransferProgress(long Bytes, long? TotalBytes, long Files, string? Path);

/// <summary>What a transfer did.</summary>
public sealed record TransferResult
{
    /// <summary>Regular files.</summary>
    public long Files { get; init; }

    /// <summary>Directories, that of the transfer not among them.</summary>
    public long Directories { get; init; }

    /// <summary>Symbolic links.</summary>
    public long Links { get; init; }

    /// <summary>Bytes of content, holes among them.</summary>
    public long Bytes { get; init; }

    /// <summary>Number of files that were left out because they cannot be transferred, or must not be.</summary>
    public long SkippedCount { get; init; }

    /// <summary>The first 1,000 of them.</summary>
    public IReadOnlyList<SkippedFile> Skipped { get; init; } = [];
}

/// <summary>A file that a transfer left out.</summary>
/// <param name="Path">Its path, relative to the directory.</param>
/// <param name="Reason">Why.</param>
public sealed record SkippedFile(string Path, string Reason);

/// <summary>A transfer of files could not go on, for a reason that is not the server's answer: a local file changed meanwhile, the
/// connection broke, or the sandbox sent what is not taken.</summary>
public sealed class FileTransferException : PandoraClientException
{
    /// <summary>Creates it.</summary>
    /// <param name="message">What happened, and what was kept.</param>
    /// <param name="innerException">Its cause.</param>
    public FileTransferException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    /// <summary>What was written at the destination before; null when nothing was.</summary>
    public TransferResult? Kept { get; init; }
}
