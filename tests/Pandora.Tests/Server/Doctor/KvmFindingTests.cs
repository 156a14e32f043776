using Pandora.Server.Doctor;

namespace Pandora.Tests.Doctor;

/// <summary>What the doctor advises where KVM cannot be used for ordinary guests.</summary>
public sealed class KvmFindingTests
{
    [Theory]
    [InlineData(false, true, "nested virtualisation", "PANDORA_VMM=firecracker and PANDORA_ACCEL=kvm")]
    [InlineData(false, false, "kvm_intel", "--device /dev/kvm")]
    [InlineData(true, true)]
    public void A_remedy_is_of_this_host(bool isUsable, bool canOpen, params string[] words)
    {
        var finding = HostChecks.Kvm((isUsable, "what was checked", canOpen));
        Assert.Equal((isUsable ? HostCheckStatus.Ok : HostCheckStatus.Warning, "what was checked"), (finding.Status, finding.Detail));
        Assert.Equal(isUsable, finding.Remedy is null);
        Assert.All(words, w => Assert.Contains(w, finding.Remedy));
        Assert.Equal(!isUsable && canOpen, finding.Remedy?.Contains("PANDORA_ACCEL", StringComparison.Ordinal) ?? false);
    }
}
