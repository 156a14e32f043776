using Pandora.Vmm.Qemu;

namespace Pandora.Vmm;

/// <summary>
/// Settings of the VMM. Each is an environment variable, <c>PANDORA_</c> and its name in upper snake case, or a member of <c>Pandora</c> in
/// <c>/etc/pandora/appsettings.json</c>.
/// </summary>
public sealed class VmmOptions
{
    /// <summary><c>auto</c> (Firecracker if it is installed and KVM is usable, else QEMU), <c>firecracker</c> or <c>qemu</c>.</summary>
    public VmmKind Vmm { get; set; } = VmmKind.Auto;

    /// <summary><c>auto</c> (KVM if it is usable, else emulation), <c>kvm</c> or <c>tcg</c>.</summary>
    public Accelerator Accel { get; set; } = Accelerator.Auto;

    /// <summary>
    /// Path or name of <c>firecracker</c>. Default: the release that <c>./pandora firecracker install</c> installed, else the one in PATH.
    /// </summary>
    public string? Firecracker { get; set; }

    /// <summary>Path or name of <c>jailer</c>. Default: the one next to Firecracker.</summary>
    public string? Jailer { get; set; }

    /// <summary>Whether Firecracker runs in a jail of its jailer. Without a jail it runs as root, for development only.</summary>
    public bool Jail { get; set; } = true;

    /// <summary>Directory for the releases of <c>./pandora firecracker install</c>; its link <c>current</c> is the one in use.</summary>
    /// <param name="dataDirectory">The instance's data directory.</param>
    public static string InstallDirectoryIn(string dataDirectory) => Path.Combine(dataDirectory, "firecracker");

    /// <summary>Makes the choice of the VMM from these settings.</summary>
    /// <param name="dataDirectory">The instance's data directory.</param>
    /// <param name="machineDirectory">Directory in which a VMM may keep files of machines besides their run directories.</param>
    public VmmChoice Choice(string dataDirectory, string machineDirectory) =>
        new(Vmm, Accel, Firecracker, Jailer, Jail, InstallDirectoryIn(dataDirectory), machineDirectory);
}
