using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// Runs machines with Firecracker, in production through its jailer. A start (1) makes the jail, (2) starts the process, (3) waits for its
/// socket, (4) makes the calls of <see cref="FirecrackerBoot"/>, the last of which starts the guest, (5) checks the seccomp filters. Each
/// step is a span, and the exception of a failed start names the step.
/// </summary>
public sealed class FirecrackerVmm : IVmm, IDisposable
{
    /// <summary>Name of the activity source of the spans.</summary>
    public const string TraceSourceName = "Pandora.Vmm";

    private const string AgentName = "agent.sock";
    private const long ConsoleRoom = 64 * 1024 * 1024;
    private static readonly ActivitySource Source = new(TraceSourceName);
    private readonly FirecrackerBinaries _binaries;
    private readonly string _chrootBase;
    private readonly TimeProvider _time;
    private readonly BoundedLogs _logs;

    /// <summary>Creates the driver.</summary>
    /// <param name="binaries">The programs; without a jailer, Firecracker runs as root and without a jail, for development.</param>
    /// <param name="chrootBase">Directory for the jails, if possible on the file system of the templates and disks.</param>
    /// <param name="reason">Why Firecracker was chosen.</param>
    /// <param name="time">Measures waits.</param>
    public FirecrackerVmm(FirecrackerBinaries binaries, string chrootBase, string reason, TimeProvider time)
    {
        _binaries = binaries;
        _chrootBase = chrootBase;
        _time = time;
        _logs = new BoundedLogs(time);
        var unjailed = binaries.Jailer is null
            ? "PANDORA_JAIL=false: Firecracker runs as root and without a jail, which is for development only"
            : null;
        Capabilities = new VmmCapabilities("Firecracker", binaries.Version.ToString(3), "KVM", reason)
        {
            Warnings = [.. new[] { unjailed, binaries.Warning }.OfType<string>()],
        };
    }

    /// <inheritdoc/>
    public VmmCapabilities Capabilities { get; }

    /// <summary>Longest time of a start, until the guest runs.</summary>
    internal TimeSpan StartLimit { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Longest time for writing a snapshot: the guest's whole memory goes to the disk.</summary>
    internal TimeSpan SnapshotLimit { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Longest time of one call of Firecracker's API.</summary>
    internal TimeSpan CallLimit { get; init; } = TimeSpan.FromSeconds(10);

    /// <inheritdoc/>
    public IReadOnlyList<string> DirectoriesOf(string id) => JailOf(id) is { } jail ? [jail.Directory] : [];

    /// <inheritdoc/>
    public void RemoveDirectories(string id) => JailOf(id)?.Remove();

    /// <inheritdoc/>
    public void RemoveOrphans(IReadOnlySet<string> living) => MachineDirectories.RemoveOrphans(_chrootBase, living);

    /// <inheritdoc/>
    public string? SnapshotCompatibility =>
        _binaries.Jailer is null || !_binaries.CanRestore
            ? null
            : $"{Capabilities.Name} {Capabilities.Version} {HostProcessor.Identify(_binaries.Firecracker)}";

    /// <inheritdoc/>
    public Task<IVirtualMachine> StartAsync(VirtualMachineSpec spec, CancellationToken cancellationToken) =>
        StartAsync(
            spec,
            MakeJailAsync,
            start => FirecrackerBoot.Calls(spec, start.Paths!, RuntimeInformation.ProcessArchitecture),
            cancellationToken);

    /// <inheritdoc/>
    public Task<IVirtualMachine> RestoreAsync(VirtualMachineSpec spec, SnapshotFiles files, CancellationToken cancellationToken) =>
        StartAsync(
            spec,
            start => MakeJailAsync(start, files),
            start => FirecrackerBoot.RestoreCalls(start.Paths!, $"/{FirecrackerJail.StateName}", $"/{FirecrackerJail.MemoryName}"),
            cancellationToken);

    /// <inheritdoc/>
    public async Task SnapshotAsync(IVirtualMachine machine, SnapshotFiles files, CancellationToken cancellationToken)
    {
        var running = (FirecrackerVirtualMachine)machine;
        var jail = running.Jail ?? throw new VmmException("without its jailer Firecracker cannot make snapshots");
        using var api = new FirecrackerApi(jail.SocketPath, SnapshotLimit, _time);
        await api.PatchAsync("/vm", JsonSerializer.SerializeToUtf8Bytes(new Vm("Paused"), FirecrackerJson.Default.Vm), cancellationToken);
        var owner = FileStatus.FindTarget(jail.AgentPath)?.Owner
            ?? throw new VmmException("the microVM's jail has no socket for the agent");
        using var state = jail.MakeFile(FirecrackerJail.StateName, owner);
        using var memory = jail.MakeFile(FirecrackerJail.MemoryName, owner);
        await api.PutAsync(
            "/snapshot/create",
            JsonSerializer.SerializeToUtf8Bytes(
                new SnapshotCreateParams("Full", $"/{FirecrackerJail.StateName}", $"/{FirecrackerJail.MemoryName}"),
                FirecrackerJson.Default.SnapshotCreateParams),
            cancellationToken);
        jail.TakeFile(state, FirecrackerJail.StateName, files.StatePath);
        jail.TakeFile(memory, FirecrackerJail.MemoryName, files.MemoryPath);
    }

    private async Task<IVirtualMachine> StartAsync(
        VirtualMachineSpec spec,
        Func<Start, Task> makeJailAsync,
        Func<Start, IReadOnlyList<(string Path, byte[] Body)>> calls,
        CancellationToken cancellationToken)
    {
        var start = new Start(spec, JailOf(spec.Id));
        using var clock = new CancellationTokenSource(StartLimit, _time);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
        var step = "";
        async Task StepAsync(string name, Func<Task> run)
        {
            step = name;
            using var span = Source.StartActivity($"firecracker.{name}");
            await run();
        }

        try
        {
            await StepAsync("jail", () => makeJailAsync(start));
            await StepAsync("process", () => StartProcessAsync(start, limit.Token));
            using var api = new FirecrackerApi(start.SocketPath, CallLimit, _time);
            await StepAsync("socket", () => api.WaitAsync(start.Process!.Exited, limit.Token));
            foreach (var (path, body) in calls(start))
            {
                await StepAsync(path[1..], () => api.PutAsync(path, body, limit.Token));
            }

            await StepAsync("seccomp", () => CheckSeccompAsync(start, limit.Token));

            start.Jailer?.Dispose();
            return start.Machine!;
        }
        catch (Exception e)
        {
            var faults = FirecrackerVirtualMachine.ReadFaults(spec.Directory, start.Jail);
            await UndoAsync(start);
            cancellationToken.ThrowIfCancellationRequested();
            var why = e is OperationCanceledException ? $"not done within {StartLimit.TotalSeconds:0} s" : e.Message;
            throw new VmmException($"Firecracker could not be started, at '{step}': {why}; {faults}", e);
        }
    }

    /// <inheritdoc/>
    public async Task<IVirtualMachine?> AttachAsync(
        VirtualMachineHandle handle, GuestChannels channels, CancellationToken cancellationToken)
    {
        handle.MustBeOf(Capabilities);
        var process = ProcessHandle.TryOpen(handle.Pid, handle.StartTime);
        if (process is null)
        {
            return null;
        }

        // The server that started the machine may have had another PANDORA_JAIL, so the directory decides.
        var jail = JailOf(handle.Id) is { } known && Directory.Exists(known.Directory) ? known : null;
        try
        {
            using var api = new FirecrackerApi(jail?.SocketPath ?? Path.Combine(handle.Directory, "api.sock"), CallLimit, _time);
            await api.GetAsync("/", FirecrackerJson.Default.InstanceInfo, cancellationToken);
            WatchLogs(handle.Directory, jail);
            return new FirecrackerVirtualMachine(handle, channels, process, jail);
        }
        catch (VmmException)
        {
            process.Dispose();
            return null;
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _logs.Dispose();

    private FirecrackerJail? JailOf(string id) =>
        _binaries.Jailer is null ? null : new FirecrackerJail(_chrootBase, _binaries.Firecracker, id);

    private static Task MakeJailAsync(Start start)
    {
        var spec = start.Spec;
        if (start.Jail is not { } jail)
        {
            start.SocketPath = Path.Combine(spec.Directory, "api.sock");
            start.Paths = new FirecrackerPaths(
                spec.KernelPath,
                spec.InitrdPath,
                [.. spec.Drives.Select(d => d.Path)],
                Path.Combine(spec.Directory, FirecrackerJail.LogName),
                Path.Combine(spec.Directory, FirecrackerJail.MetricsName),
                Path.Combine(spec.Directory, AgentName));
            File.WriteAllBytes(start.Paths.Log, []);
            File.WriteAllBytes(start.Paths.Metrics, []);
            return Task.CompletedTask;
        }

        start.SocketPath = jail.SocketPath;
        jail.Create(spec.Uid);
        start.Paths = PathsIn(jail, spec, jail.Add(spec.KernelPath, "kernel", null), jail.Add(spec.InitrdPath, "initrd", spec.Uid));
        return Task.CompletedTask;
    }

    // The drives get the names that they had in the jail of the snapshotted machine, because its state contains these names.
    private static Task MakeJailAsync(Start start, SnapshotFiles files)
    {
        var jail = start.Jail ?? throw new VmmException("without its jailer Firecracker cannot restore snapshots");
        start.SocketPath = jail.SocketPath;
        jail.Create(start.Spec.Uid);
        jail.Add(files.StatePath, FirecrackerJail.StateName, null);
        jail.Add(files.MemoryPath, FirecrackerJail.MemoryName, null);
        start.Paths = PathsIn(jail, start.Spec, "", "");
        return Task.CompletedTask;
    }

    private static FirecrackerPaths PathsIn(FirecrackerJail jail, VirtualMachineSpec spec, string kernel, string initrd) => new(
        kernel, initrd, [.. spec.Drives.Select((d, i) => jail.Add(d.Path, $"drive{i}", d.IsReadOnly ? null : spec.Uid))],
        $"/{FirecrackerJail.LogName}", $"/{FirecrackerJail.MetricsName}", $"/{FirecrackerJail.AgentName}");

    private async Task StartProcessAsync(Start start, CancellationToken cancellationToken)
    {
        var spec = start.Spec;
        if (start.Jail is not { } jail)
        {
            start.Process = VmmProcess.Start(
                spec,
                FirecrackerVirtualMachine.ConsoleName,
                spec.Network.NamespacePath,
                [_binaries.Firecracker, "--id", spec.Id, "--api-sock", start.SocketPath]);
        }
        else
        {
            // While no server runs, nothing truncates the console's file. So RLIMIT_FSIZE bounds it. The limit is the size of the largest
            // other file that Firecracker writes, with room for the console.
            var longestDisk = spec.Drives.Where(d => !d.IsReadOnly).Select(d => new FileInfo(d.Path).Length).DefaultIfEmpty().Max();
            var memoryFile = spec.SnapshotMemoryPath is null ? 0 : spec.MemoryMiB * 1024L * 1024;
            var longestFile = Math.Max(longestDisk, memoryFile) + ConsoleRoom;
            // The jailer enters the network namespace itself. It clones Firecracker into a new pid namespace, writes its pid to a file and
            // ends.
            start.Jailer = VmmProcess.TryStart(
                spec,
                FirecrackerVirtualMachine.ConsoleName,
                "",
                [
                    _binaries.Jailer!,
                    "--id",
                    spec.Id,
                    "--exec-file",
                    _binaries.Firecracker,
                    "--uid",
                    $"{spec.Uid}",
                    "--gid",
                    $"{spec.Uid}",
                    "--chroot-base-dir",
                    _chrootBase,
                    "--netns",
                    spec.Network.NamespacePath,
                    "--new-pid-ns",
                    "--resource-limit",
                    $"fsize={longestFile}",
                    "--",
                    "--api-sock",
                    $"/{FirecrackerJail.SocketName}",
                ]);
            await (start.Jailer?.Exited ?? Task.CompletedTask).WaitAsync(cancellationToken);
            var pid = ReadPid(jail) ?? throw new VmmException("the jailer failed");

            await File.WriteAllTextAsync(Path.Combine(spec.Directory, "vmm.pid"), $"{pid}\n", cancellationToken);
            start.Process = ProcessHandle.TryOpen(pid) ?? throw new VmmException("Firecracker ended at once");
        }

        start.Machine = new FirecrackerVirtualMachine(
            new VirtualMachineHandle(spec.Id, spec.Directory, start.Process.Pid, start.Process.StartTime, Capabilities.Name),
            spec.Channels,
            start.Process,
            start.Jail);
        WatchLogs(spec.Directory, start.Jail);
    }

    // Firecracker's filters are on by default. A build without filters would run without any message.
    private static async Task CheckSeccompAsync(Start start, CancellationToken cancellationToken)
    {
        if (start.Jail is not null && !IsFiltered(await File.ReadAllLinesAsync($"/proc/{start.Process!.Pid}/status", cancellationToken)))
        {
            throw new VmmException(
                "Firecracker runs without seccomp filters: use an official build ('./pandora firecracker install'), or "
                    + "PANDORA_JAIL=false for development");
        }
    }

    /// <summary>Whether a process's status shows seccomp filters (proc(5): mode 2 is SECCOMP_MODE_FILTER).</summary>
    internal static bool IsFiltered(IEnumerable<string> status) =>
        status.Any(l => l.Split(':') is ["Seccomp", var mode] && mode.Trim() == "2");

    private void WatchLogs(string directory, FirecrackerJail? jail)
    {
        _logs.Watch(Path.Combine(directory, FirecrackerVirtualMachine.ConsoleName));
        _logs.Watch(Path.Combine(directory, VmmProcess.LogName));
        _logs.Watch(Path.Combine(jail?.Root ?? directory, FirecrackerJail.LogName));
        _logs.Watch(Path.Combine(jail?.Root ?? directory, FirecrackerJail.MetricsName));
    }

    // The jailer may have cloned a Firecracker that the server does not hold yet. So the jailer is killed first: then it cannot clone
    // another. Its clone is in the cgroups, which the jailer joined before it did anything.
    private static async Task UndoAsync(Start start)
    {
        if (start.Jailer is not null)
        {
            await KillAsync(start.Jailer);
        }

        if (start.Machine is not null)
        {
            await start.Machine.DisposeAsync();
            return;
        }

        var remaining = start
            .Spec.Cgroups.SelectMany(CgroupTree.ProcessesIn)
            .Concat(start.Jail is not null && ReadPid(start.Jail) is { } pid ? [pid] : Array.Empty<int>());
        foreach (var process in ProcessHandle.OpenAll(remaining.Distinct()))
        {
            await KillAsync(process);
        }

        start.Jail?.Remove();
    }

    private static async Task KillAsync(ProcessHandle process)
    {
        process.Kill();
        await process.Exited;
        process.Dispose();
    }

    private static int? ReadPid(FirecrackerJail jail) =>
        File.Exists(jail.PidPath) && int.TryParse(File.ReadAllText(jail.PidPath), CultureInfo.InvariantCulture, out var pid) ? pid : null;

    private sealed class Start(VirtualMachineSpec spec, FirecrackerJail? jail)
    {
        public VirtualMachineSpec Spec => spec;
        public FirecrackerJail? Jail => jail;
        public string SocketPath { get; set; } = "";
        public FirecrackerPaths? Paths { get; set; }
        public ProcessHandle? Jailer { get; set; }
        public ProcessHandle? Process { get; set; }
        public FirecrackerVirtualMachine? Machine { get; set; }
    }
}
