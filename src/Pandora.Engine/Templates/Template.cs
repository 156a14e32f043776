using System.Text.Json.Serialization;

namespace Pandora.Engine.Templates;

/// <summary>What microVMs start from: kernel, initrd, read-only root filesystem, and an empty formatted disk to copy.</summary>
/// <param name="Name">Name of the template, <c>^[a-z0-9][a-z0-9-]{0,62}$</c>.</param>
/// <param name="Key">Hash of everything that the template is made of.</param>
/// <param name="CreatedAt">Time of the build.</param>
/// <param name="VcpuCount">Virtual CPUs of its microVMs, 1 to 32.</param>
/// <param name="MemoryMiB">Memory of its microVMs in MiB.</param>
/// <param name="Description">Content of the template, for people.</param>
public sealed partial record Template(string Name, string Key, DateTimeOffset CreatedAt, int VcpuCount,
    [property: JsonPropertyName("memory_mib")] int MemoryMiB, string Description)
{
    /// <summary>Kernel arguments in addition to the VMM's; null for none.</summary>
    public string? KernelArguments { get; init; }

    /// <summary>The options of <c>template build</c> that the template was built with, one word each; empty for Pandora's own template.
    /// Null in a template of an older version, which did not record them.</summary>
    public IReadOnlyList<string>? BuiltWith { get; init; }

    /// <summary>Version of the streams' protocol of the agent in the initrd; 0 for an agent of an older Pandora, which has none.</summary>
    public int AgentVersion { get; init; }

    /// <summary>Directory of the template's files.</summary>
    [JsonIgnore]
    public string Directory { get; init; } = "";

    /// <summary>The uncompressed kernel.</summary>
    [JsonIgnore]
    public string KernelPath => Path.Combine(Directory, "vmlinux");

    /// <summary>The initrd, without the files of each microVM.</summary>
    [JsonIgnore]
    public string InitrdPath => Path.Combine(Directory, "initrd");

    /// <summary>The read-only root filesystem, shared by all microVMs.</summary>
    [JsonIgnore]
    public string RootPath => Path.Combine(Directory, "rootfs.ext4");

    /// <summary>The empty formatted disk: a sparse file, copied for each microVM.</summary>
    [JsonIgnore]
    public string DiskPath => Path.Combine(Directory, "disk.ext4");

    /// <summary>A copy of the agent's program, which the guest gets from the initrd. A template of an older Pandora has none, so this is
    /// not one of <see cref="Files"/>.</summary>
    [JsonIgnore]
    public string AgentPath => Path.Combine(Directory, "agent");

    /// <summary>The files that a complete template has.</summary>
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
