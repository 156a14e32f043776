using Pandora.Vmm.Qemu;

namespace Pandora.Vmm;

/// <summary>
/// Settings of the VMM. Each is the environment variable <c>PANDORA_</c> + its name in upper snake case, or a member of <c>Pandora</c> in
/// <c>/etc/pandora/appsettings.json</c>.
/// </summary>
public sealed class VmmOptions
{
    /// <summary><c>auto</c> (Firecracker where it is installed and KVM is usable, else QEMU), <c>firecracker</c> or <c>qemu</c>.</summary>
    public VmmKind Vmm { get; set; } = VmmKind.Auto;

    /// <summary><c>auto</c> (KVM where it is really usable, else emulation), <c>kvm</c> or <c>tcg</c>.</summary>
    public Accelerator Accel { get; set; } = Accelerator.Auto;

    /// <summary>
    /// Path or name of <c>firecracker</c>. Default: what <c>./pandora firecracker install</c> put into the data directory, else the one in
    /// PATH.
    /// </summary>
    public string? Firecracker { get; set; }

    /// <summary>Path or name of <c>jailer</c>. Default: beside Firecracker.</summary>
    public string? Jailer { get; set; }

    /// <summary>Whether Firecracker runs in its jailer's jail. Without, it runs as root: for development only.</summary>
    public bool Jail { get; set; } = true;

    /// <summary>Where <c>./pandora firecracker install</c> puts releases; <c>current</c> in it is the one in use.</summary>
    /// <param name="dataDirectory">The instance's data directory.</param>
    public static string InstallDirectoryIn(string dataDirectory) => Path.Combine(dataDirectory, "firecracker");

    /// <summary>How the VMM is chosen.</summary>
    /// <param name="dataDirectory">The instance's data directory.</param>
    /// <param name="machineDirectory">Where a VMM may keep what a machine needs besides its run directory.</param>
    public VmmChoice Choice(string dataDirectory, string machineDirectory) =>
        new(Vmm, Accel, Firecracker, Jailer, Jail, InstallDirectoryIn(dataDirectory), machineDirectory);
}
