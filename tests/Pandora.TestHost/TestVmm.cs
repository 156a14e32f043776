namespace Pandora.TestHost;

/// <summary>
/// The VMM that the host tests run on: QEMU, or with <c>PANDORA_TEST_VMM=firecracker</c> a real Firecracker, named by
/// <c>PANDORA_TEST_FIRECRACKER</c>.
/// </summary>
internal static class TestVmm
{
    /// <summary>Settings that every server of the tests is started with.</summary>
    public static readonly IReadOnlyDictionary<string, string> Settings =
        Environment.GetEnvironmentVariable("PANDORA_TEST_VMM") == "firecracker"
            ? new Dictionary<string, string>
            {
                ["PANDORA_VMM"] = "firecracker",
                ["PANDORA_ACCEL"] = "kvm",
                ["PANDORA_FIRECRACKER"] = Environment.GetEnvironmentVariable("PANDORA_TEST_FIRECRACKER") ?? "firecracker",
            }
            : new Dictionary<string, string> { ["PANDORA_VMM"] = "qemu" };

    /// <summary>Whether only the kernel that the tests build (<c>PANDORA_TEST_KERNEL</c>) runs on this host's KVM.</summary>
    public static bool NeedsOwnKernel => IsFirecracker && Environment.GetEnvironmentVariable("PANDORA_TEST_KERNEL") is { Length: > 0 };

    /// <summary>Whether the tests run on Firecracker.</summary>
    public static bool IsFirecracker => Settings["PANDORA_VMM"] == "firecracker";
}
