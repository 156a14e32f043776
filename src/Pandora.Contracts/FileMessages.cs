using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>A file, directory or link in a sandbox.</summary>
/// <param name="Path">Its absolute path in the guest. Bytes that are not UTF-8 are U+FFFD; then <c>path_base64</c> has the path.</param>
/// <param name="Name">The last part of its path.</param>
/// <param name="Type">One of <see cref="FileTypes"/>.</param>
/// <param name="Size">Bytes.</param>
/// <param name="Mode">The permission bits in octal, four digits, such as <c>0644</c>.</param>
/// <param name="UserId">Number of its owner.</param>
/// <param name="GroupId">Number of its group.</param>
/// <param name="ModifiedAt">When its content was last changed, by the guest's clock.</param>
/// <param name="ETag">A text in quotes that changes when the file does, as the header of the same name.</param>
/// <param name="User">Name of its owner; left out when the guest has no name for it.</param>
/// <param name="Group">Name of its group; left out when the guest has no name for it.</param>
/// <param name="LinkTarget">What a symbolic link contains; left out for other types.</param>
/// <param name="PathBase64">The path's bytes as base64, when they are not UTF-8; else left out.</param>
/// <param name="LinkTargetBase64">The link's bytes as base64, when they are not UTF-8; else left out.</param>
public sealed record FileEntry(
    string Path, string Name, string Type, long Size, string Mode, long UserId, long GroupId, DateTimeOffset ModifiedAt,
    [property: JsonPropertyName("etag")] string ETag,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? User = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Group = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? LinkTarget = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? PathBase64 = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? LinkTargetBase64 = null);

/// <summary>Values of <see cref="FileEntry.Type"/>.</summary>
public static class FileTypes
{
    /// <summary>A regular file.</summary>
    public const string File = "file";

    /// <summary>A directory.</summary>
    public const string Directory = "directory";

    /// <summary>A symbolic link.</summary>
    public const string Link = "link";

    /// <summary>A FIFO.</summary>
    public const string Fifo = "fifo";

    /// <summary>A socket.</summary>
    public const string Socket = "socket";

    /// <summary>A character device.</summary>
    public const string CharacterDevice = "character_device";

    /// <summary>A block device.</summary>
    public const string BlockDevice = "block_device";

    /// <summary>None of the others.</summary>
    public const string Other = "other";
}

/// <summary>One page of a list of files.</summary>
/// <param name="Entries">The entries: each directory before what is in it, names in the order of their bytes.</param>
/// <param name="Next">The value of <c>after</c> for the next page; left out on the last page.</param>
public sealed record FileList(
    IReadOnlyList<FileEntry> Entries,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Next = null);

/// <summary>Body of <c>POST /sandboxes/{id}/files/mkdir</c>.</summary>
/// <param name="Path">The directory; relative to the user's home when it does not begin with a slash. Either it or <c>path_base64</c> is
/// given.</param>
/// <param name="PathBase64">The path's bytes as base64.</param>
/// <param name="User">User whose rights apply: a name, or a number. Default: root.</param>
/// <param name="Mode">Permission bits in octal. Default: <c>0755</c>.</param>
/// <param name="Owner">Who owns it: <c>user</c>, <c>user:group</c> or <c>:group</c>. Default: the user.</param>
/// <param name="Parents">True makes the directories on the way, and accepts a directory that is there. Default: true.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record MakeDirectoryRequest(
    string? Path = null,
    string? PathBase64 = null,
    [property: StringLength(Limits.MaxUserLength, ErrorMessage = "must be at most {1} characters")] string? User = null,
    string? Mode = null,
    string? Owner = null,
    bool? Parents = null);

/// <summary>Body of <c>POST /sandboxes/{id}/files/move</c> and <c>…/copy</c>.</summary>
/// <param name="From">The file or directory, as in <see cref="MakeDirectoryRequest"/>. Either it or <c>from_base64</c> is given.</param>
/// <param name="To">Where it is then: the whole path, not the directory to put it into. Either it or <c>to_base64</c> is given.</param>
/// <param name="FromBase64">The bytes of <c>from</c> as base64.</param>
/// <param name="ToBase64">The bytes of <c>to</c> as base64.</param>
/// <param name="User">User whose rights apply: a name, or a number. Default: root.</param>
/// <param name="Replace">True replaces a file that is there. A directory is never replaced. Default: false.</param>
/// <param name="Recursive">Copy: true copies a directory with what is in it. Default: false.</param>
/// <param name="Parents">True makes the directories on the way to the target. Default: true.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record MoveFileRequest(
    string? From = null,
    string? To = null,
    string? FromBase64 = null,
    string? ToBase64 = null,
    [property: StringLength(Limits.MaxUserLength, ErrorMessage = "must be at most {1} characters")] string? User = null,
    bool? Replace = null,
    bool? Recursive = null,
    bool? Parents = null);

/// <summary>Answer of <c>PUT /sandboxes/{id}/files/tar</c>: what was written.</summary>
/// <param name="Entries">Files, directories and links.</param>
/// <param name="Bytes">Bytes of content.</param>
public sealed record UnpackedFiles(long Entries, long Bytes);

/// <summary>Names of the events of a watch (<c>text/event-stream</c>). The data of each is a <see cref="FileChange"/>.</summary>
public static class FileEvents
{
    /// <summary>The watch has begun: an event follows for what happens from now on.</summary>
    public const string Started = "started";

    /// <summary>A file was made, or moved here from outside.</summary>
    public const string Created = "created";

    /// <summary>A file's content was changed.</summary>
    public const string Modified = "modified";

    /// <summary>A file's owner, mode, times or links were changed.</summary>
    public const string Attributes = "attributes";

    /// <summary>A file was deleted, or moved away.</summary>
    public const string Deleted = "deleted";

    /// <summary>A file was moved within the watched directories.</summary>
    public const string Moved = "moved";

    /// <summary>Events were lost, because they came faster than they were read, or a directory could not be watched: list the files
    /// again.</summary>
    public const string Lost = "lost";

    /// <summary>The watched directory itself was deleted or moved. It is the last event.</summary>
    public const string Gone = "gone";

    /// <summary>The watch cannot go on: an <see cref="ApiProblem"/>. It is the last event.</summary>
    public const string Error = "error";

    /// <summary>Nothing happened for a while; the data is <c>{}</c>. It keeps proxies from closing the connection.</summary>
    public const string Heartbeat = "heartbeat";
}

/// <summary>Data of an event of a watch.</summary>
/// <param name="Path">The file, relative to the watched directory; left out where no file is meant.</param>
/// <param name="Target">With <c>moved</c>, where it is now, relative to the watched directory; else left out.</param>
/// <param name="IsDirectory">True for a directory; else left out.</param>
/// <param name="PathBase64">The path's bytes as base64, when they are not UTF-8; else left out.</param>
/// <param name="TargetBase64">The target's bytes as base64, when they are not UTF-8; else left out.</param>
public sealed record FileChange(
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Path = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Target = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? IsDirectory = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? PathBase64 = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? TargetBase64 = null);
