using System.Runtime.InteropServices;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Host;
using Pandora.Vmm.Qemu;

namespace Pandora.Vmm;

/// <summary>Which VMM to use.</summary>
public enum VmmKind
{
    /// <summary>Firecracker if it is installed and KVM is usable, else QEMU.</summary>
    Auto,

    /// <summary>Firecracker; if it cannot be used the server does not start.</summary>
    Firecracker,

    /// <summary>QEMU.</summary>
    Qemu,
}

/// <summary>Chooses the VMM.</summary>
/// <param name="Kind">The VMM that the operator wants.</param>
/// <param name="Accelerator">The accelerator that the operator wants.</param>
/// <param name="Firecracker">Path or name of <c>firecracker</c>; null to search for it.</param>
/// <param name="Jailer">Path or name of <c>jailer</c>; null for the one next to <c>firecracker</c>.</param>
/// <param name="UseJailer">Whether to run Firecracker in a jail.</param>
/// <param name="InstalledIn">Directory of the releases that <c>./pandora firecracker install</c> has installed.</param>
/// <param name="JailDirectory">Directory for the jails.</param>
public sealed record VmmChoice(
    VmmKind Kind, Accelerator Accelerator, string? Firecracker, string? Jailer, bool UseJailer, string InstalledIn, string JailDirectory)
{
    /// <summary>
    /// Makes the driver after checking this host: programs that run and print their version, CPU flags, a <c>/dev/kvm</c> that can be
    /// written to. Whether guests answer is checked at each boot.
    /// </summary>
    /// <exception cref="VmmException">The operator's choice cannot be used; the message says why and what to do.</exception>
    public async Task<IVmm> MakeAsync(TimeProvider time, CancellationToken cancellationToken)
    {
        if (Kind == VmmKind.Qemu)
        {
            return await QemuVmm.CreateAsync(Accelerator, "PANDORA_VMM=qemu", JailDirectory, time, cancellationToken);
        }

        var kvm = KvmCheck.Run(isX64: RuntimeInformation.ProcessArchitecture == Architecture.X64);
        if (Kind == VmmKind.Auto && (Accelerator == Accelerator.Tcg || !kvm.IsUsable))
        {
            return await QemuVmm.CreateAsync(Accelerator, "Firecracker needs KVM", JailDirectory, time, cancellationToken);
        }

        if (Accelerator == Accelerator.Tcg)
        {
            throw new VmmException("PANDORA_VMM=firecracker and PANDORA_ACCEL=tcg contradict each other: Firecracker needs KVM");
        }

        // With PANDORA_ACCEL=kvm the operator may have a guest kernel that runs without the CPU flags. If the device cannot be opened, no
        // kernel can run.
        if (!kvm.IsUsable && !(Accelerator == Accelerator.Kvm && kvm.CanOpen))
        {
            var force = kvm.CanOpen ? ", or PANDORA_ACCEL=kvm if the kernel of your template runs on this host nevertheless" : "";
            throw new VmmException($"PANDORA_VMM=firecracker, but {kvm.Reason}; use PANDORA_VMM=auto to fall back to QEMU{force}");
        }

        if (Kind == VmmKind.Auto && Find() is null)
        {
            return await QemuVmm.CreateAsync(
                Accelerator, "Firecracker is not installed ('./pandora firecracker install')", JailDirectory, time, cancellationToken);
        }

        var program = Find() ?? Firecracker ?? "firecracker";
        var jailer = UseJailer
            ? Jailer ?? Path.Combine(Path.GetDirectoryName(FirecrackerBinaries.TryResolve(program)) ?? "", "jailer")
            : null;
        var binaries = await FirecrackerBinaries.FindAsync(program, jailer, cancellationToken);
        return new FirecrackerVmm(binaries, JailDirectory, kvm.IsUsable ? kvm.Reason : $"PANDORA_ACCEL=kvm, although {kvm.Reason}", time);
    }

    /// <summary>Does what <see cref="IVmm.RemoveOrphans"/> does, for a caller that starts no machine and needs no VMM.</summary>
    public void RemoveOrphans(IReadOnlySet<string> living) => MachineDirectories.RemoveOrphans(JailDirectory, living);

    /// <summary>Finds the path of <c>firecracker</c>; null if there is none.</summary>
    public string? Find() =>
        Firecracker is not null
            ? FirecrackerBinaries.TryResolve(Firecracker)
            : FirecrackerBinaries.TryResolve(Path.Combine(InstalledIn, "current", "firecracker"))
                ?? FirecrackerBinaries.TryResolve("firecracker");
}
