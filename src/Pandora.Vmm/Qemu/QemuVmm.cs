using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Vmm.Qemu;

/// <summary>Which accelerator to use.</summary>
public enum Accelerator
{
    /// <summary>KVM where it is usable, else TCG.</summary>
    Auto,

    /// <summary>KVM; without it the server does not start.</summary>
    Kvm,

    /// <summary>Emulation (TCG).</summary>
    Tcg,
}

/// <summary>Runs machines with QEMU from the distribution's packages.</summary>
public sealed partial class QemuVmm : IVmm, IDisposable
{
    private readonly BoundedLogs _logs;
    private readonly SealedMemory _memory;
    private readonly TimeProvider _time;
    private readonly Architecture _architecture;
    private readonly bool _useKvm;
    private readonly bool _canRunWith;
    private readonly string? _jails;

    private QemuVmm(TimeProvider time, Architecture architecture, bool useKvm, bool canRunWith, string? jails, VmmCapabilities capabilities)
    {
        _time = time;
        _architecture = architecture;
        _useKvm = useKvm;
        _canRunWith = canRunWith;
        _jails = jails;
        Capabilities = capabilities;
        _logs = new BoundedLogs(time);
        _memory = new SealedMemory(time);
    }

    /// <inheritdoc/>
    public VmmCapabilities Capabilities { get; }

    /// <inheritdoc/>
    public string? SnapshotCompatibility =>
        $"{Capabilities.Name} {Capabilities.Version} {Capabilities.Accelerator} "
            + $"{QemuCommandLine.ProcessorFor(_architecture, _useKvm)} "
            + $"{HostProcessor.Identify(QemuCommandLine.BinaryFor(_architecture))}";

    /// <summary>Checks the installed QEMU and KVM, and creates the driver.</summary>
    /// <param name="accelerator">The accelerator that the operator wants.</param>
    /// <param name="choice">Why QEMU was chosen and not Firecracker.</param>
    /// <param name="jails">Directory where the jails of an earlier Firecracker would be; null if there are none.</param>
    /// <param name="time">Measures waits.</param>
    /// <param name="cancellationToken">Cancels the checks.</param>
    /// <exception cref="VmmException">QEMU is not installed, or the operator demands KVM and it cannot be used.</exception>
    public static async Task<QemuVmm> CreateAsync(
        Accelerator accelerator, string choice, string? jails, TimeProvider time, CancellationToken cancellationToken)
    {
        var architecture = RuntimeInformation.ProcessArchitecture;
        var binary = QemuCommandLine.BinaryFor(architecture);
        string version, help;
        try
        {
            version = await Command.RunAsync(binary, ["--version"], cancellationToken: cancellationToken);
            help = await Command.RunAsync(binary, ["--help"], cancellationToken: cancellationToken);
        }
        catch (CommandException e)
        {
            throw new VmmException(e.Message, e);
        }

        var kvm = KvmCheck.Run(isX64: architecture == Architecture.X64);
        if (accelerator == Accelerator.Kvm && !kvm.IsUsable)
        {
            throw new VmmException($"PANDORA_ACCEL=kvm, but {kvm.Reason}; use PANDORA_ACCEL=auto to fall back to emulation");
        }

        var useKvm = accelerator != Accelerator.Tcg && kvm.IsUsable;
        var reason = accelerator == Accelerator.Tcg ? "PANDORA_ACCEL=tcg" : kvm.Reason;
        var match = VersionPattern().Match(version);
        var capabilities = new VmmCapabilities(
            "QEMU", match.Success ? match.Groups[1].Value : "unknown", useKvm ? "KVM" : "TCG", $"{choice}; {reason}");
        return new QemuVmm(time, architecture, useKvm, help.Contains("user=username", StringComparison.Ordinal), jails, capabilities);
    }

    /// <inheritdoc/>
    public Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken) =>
        StartAsync(spec, restored: null, (_, _) => Task.CompletedTask, cancellationToken);

    /// <inheritdoc/>
    public async Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken)
    {
        var memory = await Task.Run(() => _memory.PathOf(files.MemoryPath), cancellationToken);
        return await StartAsync(
            spec,
            files with { MemoryPath = memory },
            (machine, token) => machine.LoadStateAsync(token),
            cancellationToken);
    }

    /// <inheritdoc/>
    public Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken) =>
        ((QemuVirtualMachine)machine).SaveStateAsync(files.StatePath, cancellationToken);

    private async Task<IVirtualMachine> StartAsync(
        VirtualMachineSpec spec,
        SnapshotFiles? restored,
        Func<QemuVirtualMachine, CancellationToken, Task> onceConnected,
        CancellationToken cancellationToken)
    {
        var arguments = QemuCommandLine.Create(spec, _architecture, _useKvm, HostTsc.KiloHertz, _canRunWith, restored);
        var process = VmmProcess.Start(
            spec,
            VmmProcess.LogName,
            spec.Network.NamespacePath,
            [QemuCommandLine.BinaryFor(_architecture), .. arguments],
            restored?.StatePath);
        var machine = new QemuVirtualMachine(
            new VirtualMachineHandle(spec.Id, spec.Directory, process.Pid, process.StartTime, Capabilities.Name), process, _time);
        _logs.Watch(Path.Combine(spec.Directory, VmmProcess.LogName));
        try
        {
            await machine.ConnectAsync(cancellationToken);
            await onceConnected(machine, cancellationToken);
            return machine;
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async Task<IVirtualMachine?> AttachAsync(
        VirtualMachineHandle handle, GuestChannels channels, CancellationToken cancellationToken)
    {
        handle.MustBeOf(Capabilities);
        var process = File.Exists(SocketPath(handle.Directory)) ? ProcessHandle.TryOpen(handle.Pid, handle.StartTime) : null;
        if (process is null)
        {
            return null;
        }

        var machine = new QemuVirtualMachine(handle, process, _time);
        try
        {
            await machine.ConnectAsync(cancellationToken);
            if (!await machine.IsGuestAliveAsync(cancellationToken))
            {
                throw new VmmException("its guest has stopped");
            }

            _logs.Watch(Path.Combine(handle.Directory, VmmProcess.LogName));
            return machine;
        }
        catch
        {
            await machine.DetachAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<string> DirectoriesOf(string id) => [];

    /// <inheritdoc/>
    public void RemoveDirectories(string id)
    {
        // QEMU makes no further directories.
    }

    /// <inheritdoc/>
    public void RemoveOrphans(IReadOnlySet<string> living)
    {
        if (_jails is not null)
        {
            MachineDirectories.RemoveOrphans(_jails, living);
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _logs.Dispose();
        _memory.Dispose();
    }

    internal static string AgentSocketPath(string directory) => Path.Combine(directory, "agent.sock");

    internal static string StreamsSocketPath(string directory) => Path.Combine(directory, "streams.sock");

    internal static string SocketPath(string directory) => Path.Combine(directory, "qmp.sock");

    [GeneratedRegex(@"version ([0-9.]+)")]
    private static partial Regex VersionPattern();
}
