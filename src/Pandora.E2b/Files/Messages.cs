using System.Text.Json.Serialization;

namespace Pandora.E2b.Files;

/// <summary>A request about a path.</summary>
internal sealed record PathRequest(string? Path = null, int Depth = 0);

/// <summary>A request to move a file.</summary>
internal sealed record MoveRequest(string? Source = null, string? Destination = null);

/// <summary>A request to watch a directory.</summary>
internal sealed record WatchRequest(string? Path = null, bool Recursive = false, bool IncludeEntry = false);

/// <summary>A request about a watcher.</summary>
internal sealed record WatcherRequest(string? WatcherId = null);

/// <summary>A file, as E2B's clients show it.</summary>
internal sealed record EntryInfo(
    string Name,
    string Type,
    string Path,
    [property: JsonNumberHandling(JsonNumberHandling.WriteAsString | JsonNumberHandling.AllowReadingFromString)] long Size,
    int Mode,
    string Permissions,
    string Owner,
    string Group,
    DateTimeOffset ModifiedTime,
    string? SymlinkTarget = null)
{
    public IReadOnlyDictionary<string, string>? Metadata { get; init; }
}

/// <summary>One file.</summary>
internal sealed record EntryAnswer(EntryInfo Entry);

/// <summary>Files.</summary>
internal sealed record EntriesAnswer(EntryInfo[] Entries);

/// <summary>A change below a directory.</summary>
internal sealed record FilesystemEvent(string Name, string Type, EntryInfo? Entry = null);

/// <summary>A message of the stream of a watch: one of the members is given.</summary>
internal sealed record WatchMessage(
    Connect.Empty? Start = null, FilesystemEvent? Filesystem = null, Connect.Empty? Keepalive = null);

/// <summary>A watcher that was made.</summary>
internal sealed record WatcherAnswer(string WatcherId);

/// <summary>What a watcher has seen since it was asked last.</summary>
internal sealed record WatcherEvents(FilesystemEvent[] Events);

/// <summary>A file that was written.</summary>
internal sealed record WrittenFile(string Path, string Name, string Type, IReadOnlyDictionary<string, string>? Metadata = null);
