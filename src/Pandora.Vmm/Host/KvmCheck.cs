namespace Pandora.Vmm.Host;

/// <summary>
/// Whether KVM can run guests here. On a host whose <c>/dev/kvm</c> opens but cannot, QEMU hangs instead of failing, so this is decided
/// first, by evidence.
/// </summary>
public static class KvmCheck
{
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
                var reason = $"{cpuInfoPath} shows neither vmx nor svm, without which ordinary guests do not run "
                    + $"({devicePath} can be written to)";
                return (false, reason, true);
            }
        }

        return (true, $"{devicePath} can be written to{(isX64 ? " and the CPU virtualises" : "")}", true);
    }
}
