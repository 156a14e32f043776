namespace Pandora.Vmm.Host;

/// <summary>
/// Checks whether KVM can run guests on this host. On a host where <c>/dev/kvm</c> can be opened but KVM cannot run guests, QEMU hangs
/// instead of failing. So this check comes before the choice of the VMM.
/// </summary>
public static class KvmCheck
{
    /// <summary>Checks the device and the flags of the CPU.</summary>
    /// <returns>Whether to use KVM, why, and whether its device can at least be opened.</returns>
    public static (bool IsUsable, string Reason, bool CanOpen) Run(
        string cpuInfoPath = "/proc/cpuinfo", string devicePath = "/dev/kvm", bool isX64 = true)
    {
        if (!File.Exists(devicePath))
        {
            return (false, $"there is no {devicePath}", false);
        }

        try
        {
            using var device = new FileStream(devicePath, FileMode.Open, FileAccess.ReadWrite);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return (false, $"{devicePath} cannot be opened: {e.Message}", false);
        }

        if (isX64)
        {
            var flags = File.ReadLines(cpuInfoPath).FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal))?.Split(' ') ?? [];
            if (!flags.Contains("vmx") && !flags.Contains("svm"))
            {
                var reason = $"{cpuInfoPath} has neither vmx nor svm, and ordinary guests need one of them "
                    + $"({devicePath} can be written to)";
                return (false, reason, true);
            }
        }

        return (true, $"{devicePath} can be written to{(isX64 ? " and the CPU virtualises" : "")}", true);
    }
}
