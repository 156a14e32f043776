using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Agent.Protocol;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Networking;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>
/// Starts microVMs, step by step: <see cref="StepsOfBoot"/>, <see cref="StepsOfRestore"/> and <see cref="StepsOfSnapshot"/> list the steps
/// in their order. Each step is named and timed. A step pushes each resource on the teardown before it acquires the resource, so that a
/// start that fails at any step undoes exactly what it had done.
/// </summary>
internal sealed partial class MicroVmLauncher(
    EngineOptions options, HostNames names, TemplateStore templates, IHostNetwork network, LiveMicroVms live, CgroupTree cgroups, IVmm vmm,
    GuestAccess guests, FormatDisk formatDisk, HostBudget budget, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
    : IDisposable
{
    private static readonly GuestChannels Channels = new(
        new AgentChannel(AgentProtocol.SerialPort, AgentProtocol.VsockPort),
        new AgentChannel(AgentProtocol.StreamSerialPort, AgentProtocol.StreamVsockPort));

    private static readonly GuestChannels OldChannels = new(
        new AgentChannel(AgentProtocol.SerialPort, AgentProtocol.OldVsockPort), Streams: null);

    private static readonly TimeSpan ClockLimit = TimeSpan.FromSeconds(3);
    private readonly ILogger _logger = loggers.CreateLogger<MicroVmLauncher>();
    private readonly ConcurrentDictionary<(string Key, DateTimeOffset CreatedAt), bool> _withoutAgent = new();

    /// <summary>Whether a teardown has failed to undo a resource.</summary>
    public bool HasFailedTeardown { get; private set; }

    /// <inheritdoc/>
    public void Dispose() => _adoptionPermits.Dispose();

    /// <summary>Starts one microVM, and returns it when its guest has been reached.</summary>
    /// <param name="template">The template.</param>
    /// <param name="snapshot">The snapshot to restore from; null to boot.</param>
    /// <param name="hold">Its part of the host's budget, which is given back when nothing of the microVM remains.</param>
    /// <param name="isAwaited">Whether clients wait: then the microVM is not warmed up first.</param>
    /// <param name="cancellationToken">Cancels the start, which is cleaned up.</param>
    /// <exception cref="BootException">A step failed; the message names the step and ends with the end of the guest's console.</exception>
    public async Task<MicroVm> LaunchAsync(
        Template template, Snapshot? snapshot, HostBudget.Hold hold, Func<bool> isAwaited, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var boot = NewBoot(names.NewMicroVmId(), template);
        (boot.Snapshot, boot.Hold) = (snapshot, hold);
        boot.IsAwaited = isAwaited;
        var how = snapshot is null ? PoolStart.Boot : PoolStart.Snapshot;
        using var span = EngineTracing.Source.StartActivity("microvm.boot");
        span?.SetTag("pandora.sandbox.id", boot.Id).SetTag("pandora.template", template.Name).SetTag("pandora.start", Label.Of(how));
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(options.BootTimeout), time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            await RunAsync(boot, snapshot is null ? StepsOfBoot() : StepsOfRestore(), linked.Token);
            metrics.Booted(template.Name, how, Stopwatch.GetElapsedTime(start));
            LogBooted(boot.Id, template.Variant, Label.Of(how), Stopwatch.GetElapsedTime(start).TotalSeconds);
            return new MicroVm(boot.File!, boot.Slot!, boot.Machine!, boot.Guest!, boot.Teardown)
            {
                Agent = boot.Agent,
                Start = how,
                BootTrace = span?.Context,
            };
        }
        catch (Exception e)
        {
            var console = boot.Machine is null ? "" : await boot.Machine.ReadConsoleAsync(CancellationToken.None);
            await CleanUpAsync(boot);
            cancellationToken.ThrowIfCancellationRequested();
            span.Fail(Label.Of(boot.Step), e);
            var reason = limit.IsCancellationRequested ? $"not ready within {options.BootTimeout:0} s" : e.Message;
            throw new BootException(boot.Step, $"{Label.Of(how)} failed at step '{Label.Of(boot.Step)}': {reason}{Tail(console)}", e);
        }
    }

    // The last step of the teardown gives the part of the budget back. A start that got no slot has no such step.
    private static async Task CleanUpAsync(Boot boot)
    {
        await boot.Teardown.CompleteAsync();
        if (boot.Slot is null)
        {
            boot.Hold?.Release();
        }
    }

    private async Task TakeSlotAsync(Boot boot, CancellationToken cancellationToken)
    {
        boot.Slot = await network.AcquireSlotAsync(boot.Id, cancellationToken);
        boot.Uid = names.UidOf(boot.Slot.Index);
        HoldSlot(boot);
    }

    private async Task RecordAsync(Boot boot, CancellationToken cancellationToken)
    {
        boot.Identity = GuestIdentity.Create(boot.Id);
        Directory.CreateDirectory(boot.Directory, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.UserExecute);
        HoldFiles(boot);
        boot.File = new MicroVmFile(boot.Directory, new MicroVmRecord
        {
            Id = boot.Id,
            Instance = names.InstanceId,
            BootId = MicroVmRecord.HostBootId,
            Template = boot.Template!.Name,
            Slot = boot.Slot!.Index,
            Address = boot.Slot.Address.ToString(),
            Network = network.Range.ToString(),
            Uid = boot.Uid,
            HostKey = Convert.ToBase64String(boot.Identity.HostKey),
            Secret = Convert.ToBase64String(boot.Identity.Secret),
            AgentVersion = boot.Template.AgentVersion,
            HasAgent = true,
            Size = boot.Template.Size,
            Resources = boot.Teardown.Resources,
        });
        boot.File.Write(r => r);
        live.Set(boot.Id, boot.Slot.Index, boot.File);
        if (boot.Snapshot is null)
        {
            await boot.Identity.WriteInitrdAsync(
                boot.Template.InitrdPath, boot.InitrdPath, guests.PublicKey, network.Mtu, options.Exec == ExecWay.Ssh, cancellationToken);
        }
    }

    // The snapshot of a size has a disk of that size. A boot in a size has none to copy.
    private Task MakeDiskAsync(Boot boot, CancellationToken cancellationToken)
    {
        var template = boot.Template!;
        return boot.Snapshot is null && template.HasOtherDisk
            ? formatDisk(boot.DiskPath, template.DiskMib, Path.Combine(boot.Directory, "layout"), cancellationToken)
            : Task.Run(() => SparseFile.Copy(boot.Snapshot?.DiskPath ?? template.DiskPath, boot.DiskPath), cancellationToken);
    }

    private async Task StartVmmAsync(Boot boot, CancellationToken cancellationToken)
    {
        HoldMachine(boot, await vmm.StartAsync(SpecOf(boot), cancellationToken));
    }

    private VirtualMachineSpec SpecOf(Boot boot)
    {
        cgroups.Add(
            boot.Id,
            new CgroupLimits((boot.Template!.MemoryMiB * 1024L * 1024) + vmm.Capabilities.MemoryOverhead, 128 + boot.Template.VcpuCount));
        return new VirtualMachineSpec
        {
            Id = boot.Id,
            Directory = boot.Directory,
            KernelPath = boot.Template.KernelPath,
            InitrdPath = boot.InitrdPath,
            Drives = [new DriveSpec(boot.Template.RootPath, IsReadOnly: true), new DriveSpec(boot.DiskPath, IsReadOnly: false)],
            Network = new NetworkSpec(boot.Slot!.NamespacePath, NetworkSlot.TapName, NetworkSlot.GuestMac),
            VcpuCount = boot.Template.VcpuCount,
            MemoryMiB = boot.Template.MemoryMiB,
            KernelArguments = boot.Template.KernelArguments ?? "",
            Limits = options.DeviceLimits,
            Channels = ChannelsOf(boot.Template.AgentVersion),
            Uid = boot.Uid,
            SnapshotMemoryPath = boot.SnapshotDirectory is { } directory ? Snapshot.FilesIn(directory).MemoryPath : null,
            Cgroups = cgroups.PathsFor(boot.Id),
        };
    }

    private async Task ReachGuestAsync(Boot boot, CancellationToken cancellationToken)
    {
        await ConnectGuestAsync(boot, isAdopted: false, cancellationToken);
        // The guest has unpacked the initrd, which contains the host key.
        File.Delete(boot.InitrdPath);
        // Another server must not adopt a microVM of which a snapshot is being made.
        boot.File!.Write(r => r with
        {
            IsReady = boot.SnapshotDirectory is null,
            Exec = boot.Guest!.Way,
            Resources = boot.Teardown.Resources,
        });
    }

    /// <summary>The channels to an agent.</summary>
    /// <param name="agentVersion">Version of the agent's streams; 0 for an agent that has none.</param>
    internal static GuestChannels ChannelsOf(int agentVersion) => agentVersion == 0 ? OldChannels : Channels;

    private async Task ConnectGuestAsync(Boot boot, bool isAdopted, CancellationToken cancellationToken)
    {
        var record = boot.File!.Record;
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken);
        var connecting = guests.ConnectAsync(
            new GuestLogin
            {
                Id = boot.Id,
                Machine = boot.Machine!,
                Address = boot.Slot!.Address,
                HostKey = Convert.FromBase64String(record.HostKey),
                Secret = Convert.FromBase64String(record.Secret ?? ""),
                AgentVersion = record.AgentVersion,
                Way = isAdopted ? record.Exec ?? ExecWay.Ssh : null,
                MayLackDevice = boot.Snapshot is null && !isAdopted,
                IsAdopted = isAdopted,
            },
            stop.Token);
        if (await Task.WhenAny(connecting, boot.Machine!.Exited) != connecting)
        {
            await stop.CancelAsync();
            await ((Task)connecting).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw new VmmException(await boot.Machine.Exited);
        }

        HoldGuest(boot, await connecting);
    }

    // The booted guest has read its clock device, which has only whole seconds. A user's kernel may lack the agent's device, and an old
    // template the agent. Then the guest keeps that time, and no later boot of the template waits for the agent.
    private async Task TrySetClockAsync(Boot boot, CancellationToken cancellationToken)
    {
        var template = (boot.Template!.Key, boot.Template.CreatedAt);
        using var limit = new CancellationTokenSource(ClockLimit, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        try
        {
            if (!_withoutAgent.ContainsKey(template))
            {
                await boot.Agent!.SetClockAsync(linked.Token);
                return;
            }
        }
        catch (Exception e) when (e is VmmException or OperationCanceledException && !cancellationToken.IsCancellationRequested)
        {
            LogNoAgent(boot.Id, e.Message);
            _withoutAgent.TryAdd(template, true);
        }

        await boot.Agent!.DisposeAsync();
        boot.Agent = null;
        boot.File!.Write(r => r with { HasAgent = false });
    }

    private void Report(Undone remaining)
    {
        HasFailedTeardown = true;
        metrics.TeardownFailed(remaining.Resource.Kind);
        LogNotUndone(remaining.Resource.Kind, remaining.Resource.Name, remaining.Error ?? "it still exists");
    }

    private static string Tail(string console)
    {
        var text = console.Trim();
        var end = text.Length > 1500 ? text[^1500..] : text;
        return end.Length == 0 ? "; its console is empty" : $"; its console ends with:\n{end}";
    }

    [LoggerMessage(
        Level = LogLevel.Information, Message = "microVM {SandboxId} of template {Template} is warm after {Seconds:0.00} s ({Start})")]
    private partial void LogBooted(string sandboxId, string template, string start, double seconds);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The agent in microVM {SandboxId} does not answer ({Error}): the guest's clock is exact only to the second, as in the "
            + "next microVMs of its template")]
    private partial void LogNoAgent(string sandboxId, string error);

    [LoggerMessage(Level = LogLevel.Error, Message = "{Kind} {Name} could not be undone: {Error}. The next start removes it")]
    private partial void LogNotUndone(ResourceKind kind, string name, string error);

    private Boot NewBoot(string id, Template? template) =>
        new(id, template, names.DirectoryOf(id), names.DiskOf(id), new Teardown(time, Report));

    /// <summary>A microVM that is being started or adopted.</summary>
    private sealed class Boot(string id, Template? template, string directory, string diskPath, Teardown teardown)
    {
        public string Id => id;
        public Template? Template => template;
        public string Directory => directory;
        public string DiskPath => diskPath;
        public string InitrdPath => Path.Combine(directory, "initrd");
        public Teardown Teardown => teardown;
        public HostBudget.Hold? Hold { get; set; }
        public NetworkSlot? Slot { get; set; }
        public int Uid { get; set; }
        public GuestIdentity? Identity { get; set; }
        public MicroVmFile? File { get; set; }
        public IVirtualMachine? Machine { get; set; }
        public IGuest? Guest { get; set; }
        public GuestAgent? Agent { get; set; }
        public Snapshot? Snapshot { get; set; }
        public string? SnapshotDirectory { get; set; }
        public Func<bool> IsAwaited { get; set; } = static () => false;
        public BootStep Step { get; set; }
    }
}

/// <summary>A microVM did not become ready.</summary>
public sealed class BootException(BootStep step, string message, Exception? innerException = null) : Exception(message, innerException)
{
    /// <summary>The step that failed.</summary>
    public BootStep Step { get; } = step;

    /// <summary>Whether the start failed before it used the template or a snapshot, so that the host is the cause.</summary>
    internal bool IsOfHost => Step is BootStep.Slot or BootStep.Record;
}
