using System.Runtime.InteropServices;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Host;
using Pandora.Vmm.Qemu;

namespace Pandora.Vmm;

/// <summary>Which VMM to use.</summary>
public enum VmmKind
{
    /// <summary>Firecracker where it is installed and KVM is usable, else QEMU.</summary>
    Auto,

    /// <summary>Firecracker, or refuse to start.</summary>
    Firecracker,

    /// <summary>QEMU.</summary>
    Qemu,
}

/// <summary>What a choice is made of.</summary>
/// <param name="Kind">What the operator wants.</param>
/// <param name="Accelerator">Which accelerator the operator wants.</param>
/// <param name="Firecracker">Path or name of <c>firecracker</c>; null to look for it.</param>
/// <param name="Jailer">Path or name of <c>jailer</c>; null for the one beside it.</param>
/// <param name="UseJailer">Whether to run it in a jail.</param>
/// <param name="InstalledIn">Directory that holds what Pandora installed itself.</param>
/// <param name="JailDirectory">Directory for the jails.</param>
public sealed record VmmChoice(
    VmmKind Kind, Accelerator Accelerator, string? Firecracker, string? Jailer, bool UseJailer, string InstalledIn, string JailDirectory)
{
    /// <summary>
    /// Chooses by evidence: programs that run and tell their version, CPU flags, a <c>/dev/kvm</c> that can be written to. That a guest
    /// answers is seen at each boot.
    /// </summary>
    /// <exception cref="VmmException">What was demanded cannot be had; the message says why and what to do.</exception>
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

        // An operator who insists on KVM may know of a kernel that runs where ordinary ones do not; a device that cannot be opened is
        // final.
        if (!kvm.IsUsable && !(Accelerator == Accelerator.Kvm && kvm.CanOpen))
        {
            var insist = kvm.CanOpen ? ", or PANDORA_ACCEL=kvm if your template's kernel runs here all the same" : "";
            throw new VmmException($"PANDORA_VMM=firecracker, but {kvm.Reason}; use PANDORA_VMM=auto to fall back to QEMU{insist}");
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

    /// <summary>The program that would be used; null when there is none.</summary>
    public string? Find() =>
        Firecracker is not null
            ? FirecrackerBinaries.TryResolve(Firecracker)
            : FirecrackerBinaries.TryResolve(Path.Combine(InstalledIn, "current", "firecracker"))
                ?? FirecrackerBinaries.TryResolve("firecracker");
}
