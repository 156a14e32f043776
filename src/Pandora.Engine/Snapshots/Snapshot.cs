using System.Text.Json.Serialization;
using Pandora.Vmm;

namespace Pandora.Engine.Snapshots;

/// <summary>
/// A paused microVM that was warmed up, from which others are restored: its memory, device state and disk. The file <c>snapshot.json</c> in
/// the snapshot's directory describes it and is written last.
/// </summary>
/// <param name="Key">Hash of everything on which the snapshot depends. A snapshot with another key must not be restored.</param>
/// <param name="Variant">Name of the template in the snapshot's size, as <see cref="Templates.Template.Variant"/>.</param>
/// <param name="CreatedAt">When the snapshot was made.</param>
/// <param name="Files">Length and hash of each file.</param>
public sealed record Snapshot(
    string Key, [property: JsonPropertyName("template")] string Variant, DateTimeOffset CreatedAt,
    IReadOnlyDictionary<string, SnapshotFile> Files)
{
    /// <summary>Names of the snapshot's files.</summary>
    public const string StateName = "state", MemoryName = "memory", DiskName = "disk.ext4";

    /// <summary>Directory of the snapshot's files.</summary>
    [JsonIgnore]
    public string Directory { get; init; } = "";

    /// <summary>The files that the VMM restores.</summary>
    [JsonIgnore]
    public SnapshotFiles VmmFiles => FilesIn(Directory);

    /// <summary>The disk as it was in the snapshot; each restored microVM gets a copy.</summary>
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
