using System.Security.Cryptography;
using System.Text;
using Pandora.Agent.Protocol;
using Pandora.Engine.Templates;
using Pandora.Vmm;

namespace Pandora.Engine.Snapshots;

/// <summary>Makes the keys of snapshots.</summary>
internal static class SnapshotKeys
{
    // Raised when microVMs of this version cannot be restored from snapshots of an older version.
    private const int Format = 1;

    /// <summary>
    /// Makes the key: a hash of template, VMM with version, binary, processor and TSC rate, vCPUs, memory, size of the disk, limits of
    /// devices, and the values of this instance that are in the guest.
    /// </summary>
    /// <param name="template">The template.</param>
    /// <param name="compatibility">The VMM's <see cref="IVmm.SnapshotCompatibility"/>.</param>
    /// <param name="limits">Limits of the devices, which are part of their state.</param>
    /// <param name="publicKey">The server's public key, which the guest accepts.</param>
    /// <param name="mtu">MTU of the guest's network.</param>
    /// <param name="exec">How commands reach the guest, which runs an SSH server or none.</param>
    public static string Create(Template template, string compatibility, DeviceLimits limits, string publicKey, int mtu, ExecWay exec) =>
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
                        mtu,
                        template.AgentVersion,
                        // The template's own disk is in the template's key.
                        template.HasOtherDisk ? $"{exec}\n{template.DiskMib}" : $"{exec}"))));
}
