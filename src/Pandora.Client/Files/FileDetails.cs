using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A file, directory or link in a sandbox as the server showed it at one moment.</summary>
public sealed record FileDetails
{
    /// <summary>Its absolute path in the guest. Bytes that are not UTF-8 are U+FFFD; then <see cref="PathBytes"/> has the path.</summary>
    public string Path { get; init; } = "";

    /// <summary>The last part of its path.</summary>
    public string Name { get; init; } = "";

    /// <summary>One of <see cref="FileTypes"/>. A later server may have more values.</summary>
    public string Type { get; init; } = FileTypes.Other;

    /// <summary>Bytes.</summary>
    public long Size { get; init; }

    /// <summary>The permission bits in octal, four digits, such as <c>0644</c>.</summary>
    public string Mode { get; init; } = "";

    /// <summary>Number of its owner.</summary>
    public long UserId { get; init; }

    /// <summary>Number of its group.</summary>
    public long GroupId { get; init; }

    /// <summary>Name of its owner; null when the guest has no name for it.</summary>
    public string? User { get; init; }

    /// <summary>Name of its group; null when the guest has no name for it.</summary>
    public string? Group { get; init; }

    /// <summary>When its content was last changed, by the guest's clock.</summary>
    public DateTimeOffset ModifiedAt { get; init; }

    /// <summary>A text in quotes that changes when the file does: for <see cref="WriteFileOptions.IfMatch"/>.</summary>
    public string ETag { get; init; } = "";

    /// <summary>What a symbolic link contains; null for other types.</summary>
    public string? LinkTarget { get; init; }

    /// <summary>The path's bytes when they are not UTF-8; else null.</summary>
    public ReadOnlyMemory<byte>? PathBytes { get; init; }

    internal static FileDetails From(FileEntry entry) => new()
    {
        Path = entry.Path,
        Name = entry.Name,
        Type = entry.Type,
        Size = entry.Size,
        Mode = entry.Mode,
        UserId = entry.UserId,
        GroupId = entry.GroupId,
        User = entry.User,
        Group = entry.Group,
        ModifiedAt = entry.ModifiedAt,
        ETag = entry.ETag,
        LinkTarget = entry.LinkTarget,
        PathBytes = entry.PathBase64 is { } bytes ? Convert.FromBase64String(bytes) : null,
    };
}
