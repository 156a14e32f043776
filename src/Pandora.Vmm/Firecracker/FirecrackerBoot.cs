using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Pandora.Vmm.Firecracker;

/// <summary>Makes the API calls that configure and start a machine, in the order that Firecracker needs, for every architecture.</summary>
internal static class FirecrackerBoot
{
    // Addresses 0 to 2 are reserved (vsock(7)). Each machine has a separate device, so all machines can have the same address.
    private const int GuestCid = 3;

    // A bucket holds the tokens of one second and is refilled each second.
    private const long RefillMilliseconds = 1000;

    /// <summary>Makes the calls that boot a machine. Each is a <c>PUT</c> with a path and a body.</summary>
    /// <param name="spec">The machine.</param>
    /// <param name="paths">Paths of the machine's files as Firecracker sees them.</param>
    /// <param name="architecture">Architecture of host and guest.</param>
    public static IReadOnlyList<(string Path, byte[] Body)> Calls(
        VirtualMachineSpec spec, FirecrackerPaths paths, Architecture architecture)
    {
        var calls = new List<(string, byte[])>();
        void Put<T>(string path, T body, JsonTypeInfo<T> type) => calls.Add((path, JsonSerializer.SerializeToUtf8Bytes(body, type)));

        Put("/logger", new Logger(paths.Log, "Info"), FirecrackerJson.Default.Logger);
        Put("/metrics", new Metrics(paths.Metrics), FirecrackerJson.Default.Metrics);
        Put("/machine-config", new MachineConfiguration(spec.VcpuCount, spec.MemoryMiB), FirecrackerJson.Default.MachineConfiguration);
        Put(
            "/boot-source",
            new BootSource(paths.Kernel, paths.Initrd, KernelArguments(spec, architecture)),
            FirecrackerJson.Default.BootSource);
        for (var i = 0; i < spec.Drives.Count; i++)
        {
            var limits = Limit(spec.Limits.DiskBytesPerSecond, spec.Limits.DiskOperationsPerSecond);
            Put(
                $"/drives/drive{i}",
                new Drive($"drive{i}", paths.Drives[i], IsRootDevice: false, spec.Drives[i].IsReadOnly, "Unsafe", "Sync", limits),
                FirecrackerJson.Default.Drive);
        }

        var network = Limit(spec.Limits.NetworkBytesPerSecond, 0);
        Put(
            "/network-interfaces/eth0",
            new NetworkInterface("eth0", spec.Network.MacAddress, spec.Network.TapName, network, network),
            FirecrackerJson.Default.NetworkInterface);
        Put("/vsock", new Vsock(GuestCid, paths.Agent), FirecrackerJson.Default.Vsock);
        Put("/entropy", new EntropyDevice(), FirecrackerJson.Default.EntropyDevice);
        Put("/actions", new InstanceActionInfo("InstanceStart"), FirecrackerJson.Default.InstanceActionInfo);
        return calls;
    }

    /// <summary>Makes the calls that restore a machine from a snapshot. The snapshot contains the machine's configuration.</summary>
    public static IReadOnlyList<(string Path, byte[] Body)> RestoreCalls(FirecrackerPaths paths, string state, string memory) =>
        [
            ("/logger", JsonSerializer.SerializeToUtf8Bytes(new Logger(paths.Log, "Info"), FirecrackerJson.Default.Logger)),
            ("/metrics", JsonSerializer.SerializeToUtf8Bytes(new Metrics(paths.Metrics), FirecrackerJson.Default.Metrics)),
            (
                "/snapshot/load",
                JsonSerializer.SerializeToUtf8Bytes(
                    new SnapshotLoadParams(state, new MemoryBackend(memory, "File"), ResumeVm: true),
                    FirecrackerJson.Default.SnapshotLoadParams)),
        ];

    /// <summary>
    /// Makes the kernel's arguments. On x86_64 a guest ends Firecracker by a reset through the keyboard controller (<c>reboot=k</c>).
    /// </summary>
    public static string KernelArguments(VirtualMachineSpec spec, Architecture architecture)
    {
        var common = "console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off pandora.vsock";
        var own = architecture == Architecture.Arm64 ? common : $"{common} reboot=k 8250.nr_uarts=1 i8042.noaux i8042.nomux i8042.dumbkbd";
        return spec.KernelArguments.Length == 0 ? own : $"{own} {spec.KernelArguments}";
    }

    private static RateLimiter? Limit(long bytes, long operations)
    {
        var (bandwidth, ops) = (BucketOf(bytes), BucketOf(operations));
        return bandwidth is null && ops is null ? null : new RateLimiter(bandwidth, ops);
    }

    private static TokenBucket? BucketOf(long perSecond) => perSecond == 0 ? null : new TokenBucket(perSecond, RefillMilliseconds);
}

/// <summary>Paths of a machine's files as Firecracker sees them: in its jail, or on the host if there is no jail.</summary>
internal sealed record FirecrackerPaths(
    string Kernel, string Initrd, IReadOnlyList<string> Drives, string Log, string Metrics, string Agent);
