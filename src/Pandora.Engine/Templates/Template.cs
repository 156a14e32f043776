using System.Text.Json.Serialization;

namespace Pandora.Engine.Templates;

/// <summary>What microVMs start from: kernel, initrd, read-only root filesystem, and an empty formatted disk to copy.</summary>
/// <param name="Name">Its name, <c>^[a-z0-9][a-z0-9-]{0,62}$</c>.</param>
/// <param name="Key">Hash of everything that went into it.</param>
/// <param name="CreatedAt">When it was built.</param>
/// <param name="VcpuCount">Virtual CPUs of its microVMs, 1 to 32.</param>
/// <param name="MemoryMiB">Memory of its microVMs in MiB.</param>
/// <param name="Description">What is in it, for people.</param>
public sealed record Template(string Name, string Key, DateTimeOffset CreatedAt, int VcpuCount,
    [property: JsonPropertyName("memory_mib")] int MemoryMiB, string Description)
{
    /// <summary>Kernel arguments besides the VMM's own; null for none.</summary>
    public string? KernelArguments { get; init; }

    /// <summary>The options of <c>template build</c> that it was built with, one word each; none for Pandora's own. Null in what older
    /// versions wrote, which did not record them.</summary>
    public IReadOnlyList<string>? BuiltWith { get; init; }

    /// <summary>Where its files are.</summary>
    [JsonIgnore]
    public string Directory { get; init; } = "";

    /// <summary>Uncompressed kernel.</summary>
    [JsonIgnore]
    public string KernelPath => Path.Combine(Directory, "vmlinux");

    /// <summary>Initrd without what is a microVM's own.</summary>
    [JsonIgnore]
    public string InitrdPath => Path.Combine(Directory, "initrd");

    /// <summary>Read-only root filesystem, shared by all.</summary>
    [JsonIgnore]
    public string RootPath => Path.Combine(Directory, "rootfs.ext4");

    /// <summary>Empty formatted disk, sparse, copied for each microVM.</summary>
    [JsonIgnore]
    public string DiskPath => Path.Combine(Directory, "disk.ext4");

    /// <summary>The files that must be there.</summary>
    [JsonIgnore]
    public IReadOnlyList<string> Files => [KernelPath, InitrdPath, RootPath, DiskPath];
}

[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
    UseStringEnumConverter = true,
    RespectNullableAnnotations = true,
    RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(Template))]
internal sealed partial class TemplateJson : JsonSerializerContext;
