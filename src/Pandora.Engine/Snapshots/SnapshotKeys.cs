using System.Security.Cryptography;
using System.Text;
using Pandora.Agent.Protocol;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Engine.Snapshots;

/// <summary>What a snapshot depends on.</summary>
internal static class SnapshotKeys
{
    // Raised whenever restored microVMs of this version could not use what an older one made.
    private const int Format = 1;

    /// <summary>
    /// The key: template, VMM with version, binary, processor and TSC rate, vCPUs, memory, bounds of devices, and what of this instance is
    /// in the guest.
    /// </summary>
    /// <param name="template">The template.</param>
    /// <param name="compatibility">Of the VMM: <see cref="IVmm.SnapshotCompatibility"/>.</param>
    /// <param name="limits">Bounds of its devices, which are among their state.</param>
    /// <param name="publicKey">The server's key, which the guest lets in.</param>
    /// <param name="mtu">Of the guest's network.</param>
    public static string Create(Template template, string compatibility, DeviceLimits limits, string publicKey, int mtu) =>
        Convert.ToHexStringLower(
            SHA256.HashData(
                Encoding.UTF8.GetBytes(
                    string.Join(
                        '\n',
                        Format,
                        AgentProtocol.Version,
                        template.Key,
                        template.CreatedAt.UtcTicks,
                        compatibility,
                        template.VcpuCount,
                        template.MemoryMiB,
                        template.KernelArguments,
                        limits,
                        publicKey,
                        mtu))));
}
