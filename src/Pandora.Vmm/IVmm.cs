namespace Pandora.Vmm;

/// <summary>A driver for one kind of VMM. It runs single virtual machines and knows nothing of sandboxes.</summary>
public interface IVmm
{
    /// <summary>What this VMM is and can do on this host.</summary>
    VmmCapabilities Capabilities { get; }

    /// <summary>Starts a virtual machine; returns once its process runs and can be controlled, long before the guest is up.</summary>
    /// <exception cref="VmmException">The VMM could not be started; its own words are in the message.</exception>
    Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken);

    /// <summary>
    /// Directories besides the machine's own that starting it makes and its end removes, so that they can be recorded first.
    /// </summary>
    IReadOnlyList<string> DirectoriesOf(string id);

    /// <summary>Removes those of a machine that has ended and that nobody holds; never fails for what is gone already.</summary>
    void RemoveDirectories(string id);

    /// <summary>Removes those of all machines but some, whatever VMM ran them: the operator may have changed it since. What ran in them
    /// has ended.</summary>
    /// <param name="living">Ids of the machines whose directories stay.</param>
    void RemoveOrphans(IReadOnlySet<string> living);

    /// <summary>
    /// What besides the machine itself a snapshot's state depends on: this VMM and its version, the processor. One that was made with
    /// another must not be restored. Looked at anew each time, for a package may be upgraded under a running server. Null when this VMM
    /// cannot make snapshots here; <see cref="VmmCapabilities.Warnings"/> says why.
    /// </summary>
    string? SnapshotCompatibility { get; }

    /// <summary>
    /// Pauses a machine for good and writes its memory and its devices' state. What it was to be started with, <see
    /// cref="VirtualMachineSpec.SnapshotMemoryPath"/>, says where its memory goes.
    /// </summary>
    /// <exception cref="VmmException">The VMM could not; what was written is no snapshot.</exception>
    Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken);

    /// <summary>
    /// Starts a machine where another one was paused, with memory that is private to it; returns when it runs again. Its kernel and initrd
    /// are not used.
    /// </summary>
    /// <param name="spec">The same machine as the paused one but for id, directory, namespace, user and the paths of its drives.</param>
    /// <param name="files">The snapshot; never written to.</param>
    /// <param name="cancellationToken">Ends it; nothing is left.</param>
    /// <exception cref="VmmException">The VMM could not: the snapshot is another machine's, say, or damaged.</exception>
    Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken);

    /// <summary>
    /// Takes hold of a machine that an earlier server started, or returns null when it no longer runs or does not answer. Nothing is
    /// killed.
    /// </summary>
    /// <param name="handle">What was written down of it.</param>
    /// <param name="agent">Where its agent is met, as in the spec that it was started with.</param>
    /// <param name="cancellationToken">Ends it; the machine is left as it is.</param>
    /// <exception cref="VmmException">It cannot be this VMM's, or its guest has stopped; the message says so.</exception>
    /// <exception cref="IOException">Whether it runs could not be seen.</exception>
    Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, AgentChannel agent, CancellationToken cancellationToken);
}

/// <summary>One running virtual machine. Disposing it ends it.</summary>
public interface IVirtualMachine : IAsyncDisposable
{
    /// <summary>What is needed to find it again from another process.</summary>
    VirtualMachineHandle Handle { get; }

    /// <summary>Completes when the VMM's process has ended, or its guest has stopped for good, with the reason in words.</summary>
    Task<string> Exited { get; }

    /// <summary>Whether it runs this instant, asked of the kernel: <see cref="Exited"/> may be a moment late.</summary>
    bool IsRunning { get; }

    /// <summary>The newest of what the guest wrote to its console, at most 64 KiB.</summary>
    Task<string> ReadConsoleAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Connects to the agent in the guest, by a device that has nothing to do with its network; waits until the agent is there. What comes
    /// from it is the guest's.
    /// </summary>
    /// <exception cref="VmmException">The machine has no such device.</exception>
    Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken);

    /// <summary>Whether the VMM has stopped the guest because the host has no room for what it writes; nothing of that is lost. False where
    /// the VMM tells the guest of an I/O error instead.</summary>
    bool IsStalled { get; }

    /// <summary>Lets a stalled guest go on: what it was writing is written again. It may stall again at once.</summary>
    /// <exception cref="VmmException">The VMM does not answer.</exception>
    Task ContinueAsync(CancellationToken cancellationToken);

    /// <summary>Kills the VMM and returns when the kernel has taken its process down. Never fails for one already dead.</summary>
    Task KillAsync();
}

/// <summary>What to run. Paths are the host's.</summary>
public sealed record VirtualMachineSpec
{
    /// <summary>Identifies the machine in its process's environment (<c>PANDORA_MICROVM</c>).</summary>
    public required string Id { get; init; }

    /// <summary>An existing directory of its own, mode 0700, for sockets, the pid file and the VMM's log.</summary>
    public required string Directory { get; init; }

    /// <summary>Uncompressed kernel: ELF <c>vmlinux</c> on x86_64, <c>Image</c> on aarch64.</summary>
    public required string KernelPath { get; init; }

    /// <summary>Initial RAM disk.</summary>
    public required string InitrdPath { get; init; }

    /// <summary>Block devices in the order the guest sees them: vda, vdb, …</summary>
    public required IReadOnlyList<DriveSpec> Drives { get; init; }

    /// <summary>The network device.</summary>
    public required NetworkSpec Network { get; init; }

    /// <summary>Where the agent in the guest is met.</summary>
    public required AgentChannel Agent { get; init; }

    /// <summary>Kernel arguments besides the driver's own; empty for none.</summary>
    public string KernelArguments { get; init; } = "";

    /// <summary>Bounds of its devices.</summary>
    public DeviceLimits Limits { get; init; } = new();

    /// <summary>Virtual CPUs, 1 to 32.</summary>
    public int VcpuCount { get; init; } = 1;

    /// <summary>Guest memory in MiB, at least 128.</summary>
    public int MemoryMiB { get; init; } = 256;

    /// <summary>User and group id that the VMM runs as; belongs to this machine alone.</summary>
    public required int Uid { get; init; }

    /// <summary>File for its memory, for a machine that is to be snapshotted; null: memory of its own.</summary>
    public string? SnapshotMemoryPath { get; init; }

    /// <summary>
    /// Directories whose <c>cgroup.procs</c> the VMM is written to before it starts: one for cgroup v2, one a controller for v1.
    /// </summary>
    public IReadOnlyList<string> Cgroups { get; init; } = [];
}

/// <summary>A snapshot without its drives.</summary>
/// <param name="StatePath">State of the devices and processors, in the VMM's own format.</param>
/// <param name="MemoryPath">The guest's memory, byte for byte.</param>
public sealed record SnapshotFiles(string StatePath, string MemoryPath);

/// <summary>A block device backed by a raw image file.</summary>
/// <param name="Path">The image.</param>
/// <param name="IsReadOnly">Whether the guest may write to it.</param>
public sealed record DriveSpec(string Path, bool IsReadOnly);

/// <summary>Where the agent in the guest is met, by a device that has nothing to do with the guest's network.</summary>
/// <param name="PortName">Name of the virtio-serial port, for a VMM that has those.</param>
/// <param name="VsockPort">Port that the agent listens on, for a VMM that has vsock.</param>
public sealed record AgentChannel(string PortName, int VsockPort);

/// <summary>A network device on a tap that exists already.</summary>
/// <param name="NamespacePath">Network namespace that the VMM runs in, such as <c>/run/netns/x</c>.</param>
/// <param name="TapName">Name of the tap in that namespace.</param>
/// <param name="MacAddress">The guest's MAC address.</param>
public sealed record NetworkSpec(string NamespacePath, string TapName, string MacAddress);

/// <summary>Bounds of one machine's devices; 0 is none.</summary>
/// <param name="DiskBytesPerSecond">Bytes read and written a second, each disk by itself.</param>
/// <param name="DiskOperationsPerSecond">Operations a second, each disk by itself.</param>
/// <param name="NetworkBytesPerSecond">Bytes a second, each way by itself. QEMU does not bound it.</param>
public sealed record DeviceLimits(long DiskBytesPerSecond = 0, long DiskOperationsPerSecond = 0, long NetworkBytesPerSecond = 0);

/// <summary>Finds a running virtual machine again.</summary>
/// <param name="Id">The spec's id.</param>
/// <param name="Directory">The spec's directory.</param>
/// <param name="Pid">Process id of the VMM.</param>
/// <param name="StartTime">Its start in clock ticks since boot (<c>/proc/PID/stat</c>, field 22), so that a recycled pid is not mistaken
/// for it.</param>
/// <param name="Vmm">Name of the VMM, as in <see cref="VmmCapabilities"/>.</param>
public sealed record VirtualMachineHandle(string Id, string Directory, int Pid, long StartTime, string Vmm)
{
    /// <exception cref="VmmException">Another VMM runs it.</exception>
    internal void MustBeOf(VmmCapabilities capabilities)
    {
        if (Vmm != capabilities.Name)
        {
            throw new VmmException($"it runs on {Vmm}, and this server uses {capabilities.Name}");
        }
    }
}

/// <summary>What a VMM is and can do on this host.</summary>
/// <param name="Name">Such as <c>QEMU</c>.</param>
/// <param name="Version">Such as <c>7.2.22</c>.</param>
/// <param name="Accelerator"><c>KVM</c> or <c>TCG</c>.</param>
/// <param name="AcceleratorReason">Why this accelerator was chosen.</param>
public sealed record VmmCapabilities(string Name, string Version, string Accelerator, string AcceleratorReason)
{
    /// <summary>What an operator should know of it; empty when all is well.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>What the VMM itself needs besides the guest's memory, in bytes: code, translation cache, buffers.</summary>
    public long MemoryOverhead { get; init; } = 256L * 1024 * 1024;

    /// <summary>Whether hardware keeps the guest in. Emulation does not: QEMU says that TCG is no security boundary.</summary>
    public bool IsSecurityBoundary => Accelerator == "KVM";

    /// <summary>For people: such as <c>QEMU/TCG (emulated, not a security boundary)</c>.</summary>
    public string Isolation => IsSecurityBoundary
        ? $"{Name}/{Accelerator} (hardware virtualisation)"
        : $"{Name}/{Accelerator} (emulated, not a security boundary)";
}

/// <summary>A VMM could not do what was asked; the message holds what it said itself.</summary>
public class VmmException(string message, Exception? innerException = null) : Exception(message, innerException);
