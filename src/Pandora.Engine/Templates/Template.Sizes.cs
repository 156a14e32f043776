using System.Text.Json.Serialization;
using Pandora.Engine.Admission;

namespace Pandora.Engine.Templates;

// The size of a template's microVMs. A template in another size than its own is a variant: it has the same files, and pools and snapshots
// under a name of its own.
public sealed partial record Template
{
    // A template's name cannot contain it.
    private const char Mark = '@';
    private const long BytesPerMib = 1024 * 1024;
    private MicroVmSize? _own;

    /// <summary>Most memory that a client may ask for, in MiB; null for no bound of the template.</summary>
    public int? MaxMemoryMib { get; init; }

    /// <summary>Most virtual CPUs that a client may ask for; null for no bound of the template.</summary>
    public int? MaxVcpus { get; init; }

    /// <summary>Largest disk that a client may ask for, in MiB; null for no bound of the template.</summary>
    public int? MaxDiskMib { get; init; }

    /// <summary>Size of the disk of its microVMs in MiB; 0 when the template has no disk.</summary>
    [JsonIgnore]
    public int DiskMib { get; init; }

    /// <summary>The size of its microVMs.</summary>
    [JsonIgnore]
    public MicroVmSize Size => new(MemoryMiB, VcpuCount, DiskMib);

    /// <summary>Whether the size is another than the template's own.</summary>
    [JsonIgnore]
    public bool IsVariant => _own is not null;

    /// <summary>Whether the disk has another size than the template's file, so that a new disk is formatted for a boot.</summary>
    [JsonIgnore]
    public bool HasOtherDisk => _own is not null && _own.DiskMib != DiskMib;

    /// <summary>Name of the template in this size, the key of its pool and its snapshots: the template's name when the size is its own,
    /// else <c>name@512m-2c-4096d</c>.</summary>
    [JsonIgnore]
    public string Variant => _own is null ? Name : $"{Name}{Mark}{MemoryMiB}m-{VcpuCount}c-{DiskMib}d";

    /// <summary>Name of the template of a <see cref="Variant"/>.</summary>
    internal static string NameOf(string variant) => variant.Split(Mark)[0];

    /// <summary>Whether a <see cref="Variant"/> is the template in another size than its own.</summary>
    internal static bool IsVariantName(string variant) => variant.Contains(Mark);

    /// <summary>Length of a file in MiB; 0 when there is none.</summary>
    internal static int MibOf(string path) => new FileInfo(path) is { Exists: true } file ? (int)(file.Length / BytesPerMib) : 0;

    /// <summary>The template in a size.</summary>
    internal Template In(MicroVmSize size) => size == Size
        ? this
        : this with { MemoryMiB = size.MemoryMib, VcpuCount = size.Vcpus, DiskMib = size.DiskMib, _own = Size };

    /// <summary>Finds the size for a client's request, with the template's values where the client asks for none.</summary>
    /// <exception cref="PandoraException">A value is outside of the template's bounds.</exception>
    internal MicroVmSize Resolve(WantedSize wanted) => new(
        Within("memory_mib", wanted.MemoryMib, MemoryMiB, MicroVmSize.MinMemoryMib, MaxMemoryMib ?? MicroVmSize.MaxMemoryMib),
        Within("vcpus", wanted.Vcpus, VcpuCount, 1, MaxVcpus ?? MicroVmSize.MaxVcpus),
        Within("disk_mib", wanted.DiskMib, DiskMib, Math.Max(DiskMib, MicroVmSize.MinDiskMib), MaxDiskMib ?? MicroVmSize.MaxDiskMib));

    private int Within(string field, int? wanted, int own, int least, int most)
    {
        // The template's own value is always allowed.
        if (wanted is not { } value || value == own)
        {
            return own;
        }

        return value >= least && value <= most
            ? value
            : throw PandoraException.Invalid(field, $"must be from {least} to {most} with template '{Name}', and is {value}");
    }
}
