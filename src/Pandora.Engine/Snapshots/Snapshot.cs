using System.Text.Json.Serialization;
using Pandora.Vmm;

namespace Pandora.Engine.Snapshots;

/// <summary>
/// A warmed microVM at rest, which others start from: memory, state of its devices, disk. Described by <c>snapshot.json</c> in its
/// directory, which is written last.
/// </summary>
/// <param name="Key">Hash of everything that it depends on; one that differs in anything must not be restored.</param>
/// <param name="Template">Name of its template.</param>
/// <param name="CreatedAt">When it was made.</param>
/// <param name="Files">Length and hash of each file.</param>
public sealed record Snapshot(string Key, string Template, DateTimeOffset CreatedAt, IReadOnlyDictionary<string, SnapshotFile> Files)
{
    /// <summary>Names of its files.</summary>
    public const string StateName = "state", MemoryName = "memory", DiskName = "disk.ext4";

    /// <summary>Where its files are.</summary>
    [JsonIgnore]
    public string Directory { get; init; } = "";

    /// <summary>What the VMM restores.</summary>
    [JsonIgnore]
    public SnapshotFiles VmmFiles => FilesIn(Directory);

    /// <summary>The disk as it was at that moment, to be copied.</summary>
    [JsonIgnore]
    public string DiskPath => Path.Combine(Directory, DiskName);

    /// <summary>The VMM's files in a directory.</summary>
    public static SnapshotFiles FilesIn(string directory) => new(Path.Combine(directory, StateName), Path.Combine(directory, MemoryName));
}

/// <summary>A file as it was when its snapshot was made.</summary>
/// <param name="Length">Bytes.</param>
/// <param name="Sha256">Hash, in hexadecimal digits.</param>
public sealed record SnapshotFile(long Length, string Sha256);

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(Snapshot))]
internal sealed partial class SnapshotJson : JsonSerializerContext;
