using System.Runtime.InteropServices;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// What Firecracker is told before a machine starts, in the order that its API wants. Sent as it is on every architecture.
/// </summary>
internal static class FirecrackerBoot
{
    // Addresses 0 to 2 are taken (vsock(7)); each machine's device is its own, so all may have the same.
    private const int GuestCid = 3;

    // A second's tokens at once, refilled each second.
    private const long RefillMilliseconds = 1000;

    /// <summary>The calls, each a <c>PUT</c>: path and body.</summary>
    /// <param name="spec">The machine.</param>
    /// <param name="paths">Paths of the machine's files as Firecracker sees them.</param>
    /// <param name="architecture">Of host and guest.</param>
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

    /// <summary>The calls that start a machine from a snapshot instead: what was configured is in it.</summary>
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
    /// The kernel's arguments. On x86_64 the keyboard controller's reset is how a guest tells Firecracker that it is done.
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

/// <summary>Where a machine's files are for Firecracker: in its jail, or on the host without one.</summary>
internal sealed record FirecrackerPaths(
    string Kernel, string Initrd, IReadOnlyList<string> Drives, string Log, string Metrics, string Agent);
