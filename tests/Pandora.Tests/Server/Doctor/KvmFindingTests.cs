using Pandora.Server.Doctor;

namespace Pandora.Tests.Doctor;

/// <summary>The doctor's advice on a host where ordinary guests cannot use KVM.</summary>
public sealed class KvmFindingTests
{
    [Theory]
    [InlineData(false, true, "nested virtualisation", "PANDORA_VMM=firecracker and PANDORA_ACCEL=kvm")]
    [InlineData(false, false, "kvm_intel", "--device /dev/kvm")]
    [InlineData(true, true)]
    public void The_remedy_fits_the_host(bool isUsable, bool canOpen, params string[] words)
    {
        var finding = HostChecks.Kvm((isUsable, "what was checked", canOpen));
        Assert.Equal((isUsable ? HostCheckStatus.Ok : HostCheckStatus.Warning, "what was checked"), (finding.Status, finding.Detail));
        Assert.Equal(isUsable, finding.Remedy is null);
        Assert.All(words, w => Assert.Contains(w, finding.Remedy));
        Assert.Equal(!isUsable && canOpen, finding.Remedy?.Contains("PANDORA_ACCEL", StringComparison.Ordinal) ?? false);
    }
}
