namespace Pandora.Vmm.Qemu;

/// <summary>Whether KVM can run guests here. On a host whose <c>/dev/kvm</c> opens but cannot, QEMU hangs instead of failing, so this is decided first, by evidence.</summary>
internal static class KvmCheck
{
    /// <returns>Whether to use KVM, and why.</returns>
    public static (bool IsUsable, string Reason) Run(string cpuInfoPath = "/proc/cpuinfo", string devicePath = "/dev/kvm", bool isX64 = true)
    {
        if (!File.Exists(devicePath))
        {
            return (false, $"there is no {devicePath}");
        }

        if (isX64)
        {
            var flags = File.ReadLines(cpuInfoPath).FirstOrDefault(l => l.StartsWith("flags", StringComparison.Ordinal))?.Split(' ') ?? [];
            if (!flags.Contains("vmx") && !flags.Contains("svm"))
            {
                return (false, $"{devicePath} is there, but the CPU shows neither vmx nor svm, so it cannot run ordinary guests");
            }
        }

        try
        {
            using var device = new FileStream(devicePath, FileMode.Open, FileAccess.ReadWrite);
            return (true, $"{devicePath} can be written to{(isX64 ? " and the CPU virtualises" : "")}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return (false, $"{devicePath} cannot be opened: {e.Message}");
        }
    }
}
