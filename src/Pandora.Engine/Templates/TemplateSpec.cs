namespace Pandora.Engine.Templates;

/// <summary>What a template is made of: packages, or a root filesystem and a kernel that the user brings.</summary>
public sealed record TemplateSpec
{
    /// <summary>Name of the template.</summary>
    public required string Name { get; init; }

    /// <summary>Packages in addition to those that every template has.</summary>
    public IReadOnlyList<string> Packages { get; init; } = [];

    /// <summary>A shell script run as root inside the new root filesystem, or null.</summary>
    public string? SetupScriptPath { get; init; }

    /// <summary>An ext4 image to use instead of packages. It must hold bash; without dropbear its microVMs run commands only through
    /// the agent's device.</summary>
    public string? RootPath { get; init; }

    /// <summary>
    /// An uncompressed kernel (or bzImage) to use instead of the distribution's. virtio, ext4 and overlayfs must be built in or be in <see
    /// cref="ModulesPath"/>.
    /// </summary>
    public string? KernelPath { get; init; }

    /// <summary>
    /// The <c>lib/modules/VERSION</c> directory of that kernel, from which the initrd takes the drivers that are not built in; null when
    /// all drivers are built in.
    /// </summary>
    public string? ModulesPath { get; init; }

    /// <summary>The guest agent's program: static, for this architecture.</summary>
    public required string AgentPath { get; init; }

    /// <summary>Kernel arguments in addition to the VMM's.</summary>
    public string KernelArguments { get; init; } = "";

    /// <summary>Virtual CPUs, 1 to 32.</summary>
    public int VcpuCount { get; init; } = 1;

    /// <summary>Memory in MiB, 128 to 65,536.</summary>
    public int MemoryMiB { get; init; } = 256;

    /// <summary>Size of each microVM's disk in MiB. The file is sparse.</summary>
    public int DiskMiB { get; init; } = 2048;

    /// <summary>Most memory that a client may ask for, in MiB; null for the API's limit.</summary>
    public int? MaxMemoryMib { get; init; }

    /// <summary>Most virtual CPUs that a client may ask for; null for the API's limit.</summary>
    public int? MaxVcpus { get; init; }

    /// <summary>Largest disk that a client may ask for, in MiB; null for the API's limit.</summary>
    public int? MaxDiskMib { get; init; }
}

/// <summary>When an existing template is built again.</summary>
public enum RebuildRule
{
    /// <summary>When it is made of other things than the new specification.</summary>
    IfChanged,

    /// <summary>The same, but a template that the operator built with options is kept, and a line reports that.</summary>
    IfChangedAndNotOwn,

    /// <summary>Always.</summary>
    Always,
}
