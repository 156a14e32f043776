using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// Runs machines with Firecracker, in production through its jailer. A start is (1) the jail, (2) the process, (3) its socket, (4) the
/// calls of <see cref="FirecrackerBoot"/>, the last of which starts the guest, (5) a look at its seccomp filters; each step is a span, and
/// a start that fails says at which.
/// </summary>
public sealed class FirecrackerVmm : IVmm, IDisposable
{
    /// <summary>Name of the source of the spans.</summary>
    public const string TraceSourceName = "Pandora.Vmm";

    private const string AgentName = "agent.sock";
    private const long ConsoleRoom = 64 * 1024 * 1024;
    private static readonly ActivitySource Source = new(TraceSourceName);
    private readonly FirecrackerBinaries _binaries;
    private readonly string _chrootBase;
    private readonly TimeProvider _time;
    private readonly BoundedLogs _logs;

    /// <param name="binaries">The installed programs; without a jailer it runs unjailed and as root, for development.</param>
    /// <param name="chrootBase">Directory for the jails, on the file system of the templates and disks if possible.</param>
    /// <param name="reason">Why it was chosen.</param>
    /// <param name="time">For waits.</param>
    public FirecrackerVmm(FirecrackerBinaries binaries, string chrootBase, string reason, TimeProvider time)
    {
        _binaries = binaries;
        _chrootBase = chrootBase;
        _time = time;
        _logs = new BoundedLogs(time);
        var unjailed = binaries.Jailer is null
            ? "PANDORA_JAIL=false: Firecracker runs as root and outside of a jail, which is for development only"
            : null;
        Capabilities = new VmmCapabilities("Firecracker", binaries.Version.ToString(3), "KVM", reason)
        {
            Warnings = [.. new[] { unjailed, binaries.Warning }.OfType<string>()],
        };
    }

    /// <inheritdoc/>
    public VmmCapabilities Capabilities { get; }

    /// <summary>Longest a start may take until the guest runs.</summary>
    internal TimeSpan StartLimit { get; init; } = TimeSpan.FromSeconds(15);

    /// <summary>Longest that writing a snapshot may take: all of a guest's memory goes to the disk.</summary>
    internal TimeSpan SnapshotLimit { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Longest that one call of Firecracker's API may take.</summary>
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
        var jail = running.Jail ?? throw new VmmException("without its jailer Firecracker makes no snapshots");
        using var api = new FirecrackerApi(jail.SocketPath, SnapshotLimit, _time);
        await api.PatchAsync("/vm", JsonSerializer.SerializeToUtf8Bytes(new Vm("Paused"), FirecrackerJson.Default.Vm), cancellationToken);
        var owner = FileStatus.FindTarget(jail.AgentPath)?.Owner ?? throw new VmmException("the microVM's jail has no socket of its agent");
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
            var words = e is OperationCanceledException ? $"not done within {StartLimit.TotalSeconds:0} s" : e.Message;
            throw new VmmException($"Firecracker could not be started, at '{step}': {words}; {faults}", e);
        }
    }

    /// <inheritdoc/>
    public async Task<IVirtualMachine?> AttachAsync(VirtualMachineHandle handle, AgentChannel agent, CancellationToken cancellationToken)
    {
        handle.MustBeOf(Capabilities);
        var process = ProcessHandle.TryOpen(handle.Pid, handle.StartTime);
        if (process is null)
        {
            return null;
        }

        // Started by a server with another PANDORA_JAIL, it is where that one put it.
        var jail = JailOf(handle.Id) is { } known && Directory.Exists(known.Directory) ? known : null;
        try
        {
            using var api = new FirecrackerApi(jail?.SocketPath ?? Path.Combine(handle.Directory, "api.sock"), CallLimit, _time);
            await api.GetAsync("/", FirecrackerJson.Default.InstanceInfo, cancellationToken);
            WatchLogs(handle.Directory, jail);
            return new FirecrackerVirtualMachine(handle, agent, process, jail);
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

    // The drives have the names that they had in the other machine's jail, which its state holds.
    private static Task MakeJailAsync(Start start, SnapshotFiles files)
    {
        var jail = start.Jail ?? throw new VmmException("without its jailer Firecracker restores no snapshots");
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
            // While no server empties the console's file, that file grows no longer than the guest's disk may.
            var longestDisk = spec.Drives.Where(d => !d.IsReadOnly).Select(d => new FileInfo(d.Path).Length).DefaultIfEmpty().Max();
            var memoryFile = spec.SnapshotMemoryPath is null ? 0 : spec.MemoryMiB * 1024L * 1024;
            var longestFile = Math.Max(longestDisk, memoryFile) + ConsoleRoom;
            // The jailer joins the namespace itself. In a pid namespace of its own it clones Firecracker, writes down its pid and ends.
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
            spec.Agent,
            start.Process,
            start.Jail);
        WatchLogs(spec.Directory, start.Jail);
    }

    // Firecracker's filters are on unless it is told otherwise; a build without any would run on without a word.
    private static async Task CheckSeccompAsync(Start start, CancellationToken cancellationToken)
    {
        if (start.Jail is not null && !IsFiltered(await File.ReadAllLinesAsync($"/proc/{start.Process!.Pid}/status", cancellationToken)))
        {
            throw new VmmException(
                "it runs without seccomp filters: use an official build ('./pandora firecracker install'), or PANDORA_JAIL=false for "
                    + "development");
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

    // What the jailer cloned and nobody holds yet is found once the jailer itself is gone, which joined the cgroups before it did anything:
    // it can clone no more then.
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

        var left = start
            .Spec.Cgroups.SelectMany(CgroupTree.ProcessesIn)
            .Concat(start.Jail is not null && ReadPid(start.Jail) is { } pid ? [pid] : Array.Empty<int>());
        foreach (var process in ProcessHandle.OpenAll(left.Distinct()))
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
