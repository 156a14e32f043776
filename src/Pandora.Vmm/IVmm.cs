namespace Pandora.Vmm;

/// <summary>A driver for one kind of VMM. It runs single virtual machines and does not know of sandboxes.</summary>
public interface IVmm
{
    /// <summary>Describes this VMM and what it can do on this host.</summary>
    VmmCapabilities Capabilities { get; }

    /// <summary>Starts a virtual machine. Returns once its process runs and can be controlled, long before the guest is up.</summary>
    /// <exception cref="VmmException">The VMM could not be started; the message contains what the VMM reported.</exception>
    Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken);

    /// <summary>
    /// Lists the directories besides the machine's directory that its start makes and its end removes, so that they can be recorded first.
    /// </summary>
    IReadOnlyList<string> DirectoriesOf(string id);

    /// <summary>Removes these directories of a machine that has ended. Does not fail if they do not exist.</summary>
    void RemoveDirectories(string id);

    /// <summary>
    /// Removes the directories of all machines except some, whichever VMM ran them: the operator may have changed the VMM. The processes in
    /// them have ended.
    /// </summary>
    /// <param name="living">Ids of the machines whose directories remain.</param>
    void RemoveOrphans(IReadOnlySet<string> living);

    /// <summary>
    /// Identifies what a snapshot's state depends on besides the machine: this VMM with its version, and the processor. A snapshot that was
    /// made with another value must not be restored. It is read again each time, because a package may be upgraded while the server runs.
    /// Null if this VMM cannot make snapshots on this host; <see cref="VmmCapabilities.Warnings"/> says why.
    /// </summary>
    string? SnapshotCompatibility { get; }

    /// <summary>
    /// Pauses a machine for good and writes its memory and the state of its devices. The machine must have been started with <see
    /// cref="VirtualMachineSpec.SnapshotMemoryPath"/>, the file for its memory.
    /// </summary>
    /// <exception cref="VmmException">The VMM could not make the snapshot; the written files cannot be used.</exception>
    Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken);

    /// <summary>
    /// Starts a machine from a snapshot, with private memory. Returns when the machine runs. The spec's kernel and initrd are not used.
    /// </summary>
    /// <param name="spec">The spec of the snapshotted machine with another id, directory, namespace, user and paths of the drives.</param>
    /// <param name="files">The snapshot; it is only read.</param>
    /// <param name="cancellationToken">Cancels the start, and cleans up.</param>
    /// <exception cref="VmmException">The VMM could not: for example, the snapshot is of another machine or damaged.</exception>
    Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken);

    /// <summary>
    /// Connects to a machine that an earlier server started. Returns null if the machine no longer runs or does not answer. Kills nothing.
    /// </summary>
    /// <param name="handle">The recorded handle of the machine.</param>
    /// <param name="channels">Channels to its agent, as in the spec with which the machine was started.</param>
    /// <param name="cancellationToken">Cancels the attempt; the machine keeps running.</param>
    /// <exception cref="VmmException">Another VMM runs the machine, or its guest has stopped; the message says which.</exception>
    /// <exception cref="IOException">It could not be checked whether the machine runs.</exception>
    Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, GuestChannels channels, CancellationToken cancellationToken);
}

/// <summary>One running virtual machine. Disposing it ends it.</summary>
public interface IVirtualMachine : IAsyncDisposable
{
    /// <summary>The data with which another process can find the machine again.</summary>
    VirtualMachineHandle Handle { get; }

    /// <summary>Completes when the VMM's process has ended or the guest has stopped for good. The result is the reason, as text.</summary>
    Task<string> Exited { get; }

    /// <summary>Whether the machine runs at this moment, according to the kernel: <see cref="Exited"/> may be a moment late.</summary>
    bool IsRunning { get; }

    /// <summary>Reads the end of the guest's console, at most 64 KiB.</summary>
    Task<string> ReadConsoleAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Connects to the agent in the guest, through a device that does not depend on the guest's network. Waits until the agent answers. The
    /// bytes come from the guest, so they cannot be trusted.
    /// </summary>
    /// <exception cref="VmmException">The machine has no such device.</exception>
    Task<Stream> ConnectAgentAsync(CancellationToken cancellationToken);

    /// <summary>Whether <see cref="ConnectStreamsAsync"/> makes a new connection for each caller; else all share one.</summary>
    bool HasManyConnections { get; }

    /// <summary>Connects to the streams of the agent, through a device like that of <see cref="ConnectAgentAsync"/>.</summary>
    /// <exception cref="VmmException">The machine has no such device.</exception>
    Task<Stream> ConnectStreamsAsync(CancellationToken cancellationToken);

    /// <summary>
    /// Whether the VMM has paused the guest because the host's disk has no room for what the guest writes. Nothing is lost then. False if
    /// the VMM reports an I/O error to the guest instead.
    /// </summary>
    bool IsStalled { get; }

    /// <summary>Resumes a stalled guest, which repeats its failed writes. It may stall again at once.</summary>
    /// <exception cref="VmmException">The VMM does not answer.</exception>
    Task ContinueAsync(CancellationToken cancellationToken);

    /// <summary>Kills the VMM and returns when its process has ended. Does not fail if it has ended already.</summary>
    Task KillAsync();
}

/// <summary>Describes the machine to run. Paths are paths on the host.</summary>
public sealed record VirtualMachineSpec
{
    /// <summary>Identifies the machine in its process's environment (<c>PANDORA_MICROVM</c>).</summary>
    public required string Id { get; init; }

    /// <summary>An existing directory that only this machine uses, mode 0700, for sockets, the pid file and the VMM's log.</summary>
    public required string Directory { get; init; }

    /// <summary>Uncompressed kernel: ELF <c>vmlinux</c> on x86_64, <c>Image</c> on aarch64.</summary>
    public required string KernelPath { get; init; }

    /// <summary>Initial RAM disk.</summary>
    public required string InitrdPath { get; init; }

    /// <summary>Block devices, in the order in which the guest sees them: vda, vdb, …</summary>
    public required IReadOnlyList<DriveSpec> Drives { get; init; }

    /// <summary>The network device.</summary>
    public required NetworkSpec Network { get; init; }

    /// <summary>Channels to the agent in the guest.</summary>
    public required GuestChannels Channels { get; init; }

    /// <summary>Kernel arguments to add to those of the driver; empty for none.</summary>
    public string KernelArguments { get; init; } = "";

    /// <summary>Limits of the machine's devices.</summary>
    public DeviceLimits Limits { get; init; } = new();

    /// <summary>Virtual CPUs, 1 to 32.</summary>
    public int VcpuCount { get; init; } = 1;

    /// <summary>Guest memory in MiB, at least 128.</summary>
    public int MemoryMiB { get; init; } = 256;

    /// <summary>User and group id of the VMM; no other machine has the same.</summary>
    public required int Uid { get; init; }

    /// <summary>File for the memory of a machine that will be snapshotted; null for memory without a file.</summary>
    public string? SnapshotMemoryPath { get; init; }

    /// <summary>
    /// Directories of the cgroups that the VMM joins before it starts (<c>cgroup.procs</c>): one for cgroup v2, one per controller for v1.
    /// </summary>
    public IReadOnlyList<string> Cgroups { get; init; } = [];
}

/// <summary>A snapshot without its drives.</summary>
/// <param name="StatePath">State of the devices and processors, in a format of the VMM.</param>
/// <param name="MemoryPath">The guest's memory, byte for byte.</param>
public sealed record SnapshotFiles(string StatePath, string MemoryPath);

/// <summary>A block device backed by a raw image file.</summary>
/// <param name="Path">The image.</param>
/// <param name="IsReadOnly">Whether the guest can only read it.</param>
public sealed record DriveSpec(string Path, bool IsReadOnly);

/// <summary>The channels to the agent in the guest.</summary>
/// <param name="Agent">For questions about the guest.</param>
/// <param name="Streams">For processes; null for a guest whose agent has none.</param>
public sealed record GuestChannels(AgentChannel Agent, AgentChannel? Streams);

/// <summary>A channel to the agent in the guest, through a device that does not depend on the guest's network.</summary>
/// <param name="PortName">Name of the virtio-serial port, for a VMM with virtio-serial.</param>
/// <param name="VsockPort">Port on which the agent listens, for a VMM with vsock.</param>
public sealed record AgentChannel(string PortName, int VsockPort);

/// <summary>A network device on a tap that exists already.</summary>
/// <param name="NamespacePath">Network namespace in which the VMM runs, such as <c>/run/netns/x</c>.</param>
/// <param name="TapName">Name of the tap in that namespace.</param>
/// <param name="MacAddress">The guest's MAC address.</param>
public sealed record NetworkSpec(string NamespacePath, string TapName, string MacAddress);

/// <summary>Limits of one machine's devices; 0 means no limit.</summary>
/// <param name="DiskBytesPerSecond">Bytes read and written per second, for each disk.</param>
/// <param name="DiskOperationsPerSecond">Operations per second, for each disk.</param>
/// <param name="NetworkBytesPerSecond">Bytes per second, for each direction. QEMU does not enforce it.</param>
public sealed record DeviceLimits(long DiskBytesPerSecond = 0, long DiskOperationsPerSecond = 0, long NetworkBytesPerSecond = 0);

/// <summary>The data with which a running virtual machine can be found again.</summary>
/// <param name="Id">The spec's id.</param>
/// <param name="Directory">The spec's directory.</param>
/// <param name="Pid">Process id of the VMM.</param>
/// <param name="StartTime">Start time of the process in clock ticks since boot (<c>/proc/PID/stat</c>, field 22). It distinguishes the
/// process from a later one with the same pid.</param>
/// <param name="Vmm">Name of the VMM, as in <see cref="VmmCapabilities"/>.</param>
public sealed record VirtualMachineHandle(string Id, string Directory, int Pid, long StartTime, string Vmm)
{
    /// <summary>Checks that the machine runs on a VMM.</summary>
    /// <exception cref="VmmException">Another VMM runs the machine.</exception>
    internal void MustBeOf(VmmCapabilities capabilities)
    {
        if (Vmm != capabilities.Name)
        {
            throw new VmmException($"it runs on {Vmm}, and this server uses {capabilities.Name}");
        }
    }
}

/// <summary>Describes a VMM and what it can do on this host.</summary>
/// <param name="Name">Such as <c>QEMU</c>.</param>
/// <param name="Version">Such as <c>7.2.22</c>.</param>
/// <param name="Accelerator"><c>KVM</c> or <c>TCG</c>.</param>
/// <param name="AcceleratorReason">Why this accelerator was chosen.</param>
public sealed record VmmCapabilities(string Name, string Version, string Accelerator, string AcceleratorReason)
{
    /// <summary>What an operator should know about the VMM; empty if there is nothing to report.</summary>
    public IReadOnlyList<string> Warnings { get; init; } = [];

    /// <summary>Memory that the VMM needs besides the guest's memory, in bytes: for code, translation cache and buffers.</summary>
    public long MemoryOverhead { get; init; } = 256L * 1024 * 1024;

    /// <summary>Whether hardware isolates the guest. Emulation does not: QEMU documents that TCG is no security boundary.</summary>
    public bool IsSecurityBoundary => Accelerator == "KVM";

    /// <summary>The isolation as text for people, such as <c>QEMU/TCG (emulated, not a security boundary)</c>.</summary>
    public string Isolation => IsSecurityBoundary
        ? $"{Name}/{Accelerator} (hardware virtualisation)"
        : $"{Name}/{Accelerator} (emulated, not a security boundary)";
}

/// <summary>A VMM could not do what was requested; the message contains what the VMM reported.</summary>
public class VmmException(string message, Exception? innerException = null) : Exception(message, innerException);
