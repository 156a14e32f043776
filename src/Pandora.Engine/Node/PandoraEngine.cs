using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;
using Pandora.Engine.Projects;
using Pandora.Engine.Recovery;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm;

namespace Pandora.Engine.Node;

/// <summary>
/// One node: its parts and their order. To open a node is to (1) lock the data directory, (2) read the records of an earlier server, (3)
/// open the network, (4) make the parts that start microVMs, (5) make pools and sandboxes. Then <see cref="RecoverAsync()"/> adopts the
/// living microVMs and cleans up the rest, while clients are answered with "try again". <see cref="StopAsync(bool)"/> ends everything in
/// reverse order, or detaches from the living microVMs.
/// </summary>
public sealed partial class PandoraEngine : IAsyncDisposable
{
    // Longest time that commands may continue when the server detaches from sandboxes.
    private static readonly TimeSpan Drain = TimeSpan.FromSeconds(10);
    private const long MiB = 1024 * 1024;
    private const string OfNoPool = "it was not claimed, and has another size than its template's";
    private readonly CancellationTokenSource _stopping = new();
    private readonly Parts _parts;
    private readonly UndoStack _undo;
    private IReadOnlyList<FoundRecord> _found;
    private Task _recovering = Task.CompletedTask;
    private TimeSpan _drain = Drain;

    private PandoraEngine(Parts parts, UndoStack undo, IReadOnlyList<FoundRecord> found) => (_parts, _undo, _found) = (parts, undo, found);

    /// <summary>The sandboxes.</summary>
    public SandboxRegistry Sandboxes => _parts.Sandboxes;

    /// <summary>The identity and the state of this node.</summary>
    public NodeStatus Status
    {
        get
        {
            var (missing, poolSize) = (_parts.Network.Missing, _parts.Options.PoolSize);
            return new NodeStatus(
                _parts.Names.InstanceId, _parts.Vmm.Capabilities,
                [.. _parts.Notes, .. new[] { missing, _parts.Room.Warning }.OfType<string>()],
                poolSize, Pools.All.Sum(p => p.WarmCount),
                IsReady: Sandboxes.IsOpen && missing is null && (poolSize == 0 || Pools.WarmCountOf(EngineOptions.DefaultTemplate) > 0),
                Sandboxes.IsRecovering, IsProtected: missing is null,
                new NodeCapacity((_parts.Budget.MemoryMib, _parts.Budget.Vcpus), Sandboxes.Used, _parts.Budget.Held));
        }
    }

    /// <summary>Whether microVMs of an earlier server are neither adopted nor cleaned up yet.</summary>
    public bool HasUnrecovered => _found.Count > 0;

    /// <summary>The warm pools.</summary>
    internal WarmPools Pools => _parts.Pools;

    /// <summary>Opens a node. Its sandboxes cannot be used before <see cref="RecoverAsync()"/> is done.</summary>
    /// <param name="options">Settings of the node.</param>
    /// <param name="vmm">Runs the virtual machines.</param>
    /// <param name="metrics">Metrics of the node.</param>
    /// <param name="time">The clock of limits, intervals and ages.</param>
    /// <param name="loggers">Logs of the node.</param>
    /// <param name="cancellationToken">Cancels the opening, which is undone.</param>
    /// <param name="host">The parts of the host; null for the real ones.</param>
    /// <param name="projects">Finds the projects; null for projects without bounds.</param>
    /// <exception cref="StartupException">Something is missing or contradictory; the opening is undone.</exception>
    public static async Task<PandoraEngine> OpenAsync(
        EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers,
        CancellationToken cancellationToken, NodeHost? host = null, FindProject? projects = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        var undo = new UndoStack(loggers.CreateLogger<PandoraEngine>());
        try
        {
            return await OpenAsync(options, vmm, metrics, time, loggers, host ?? new NodeHost(), projects, undo, cancellationToken);
        }
        catch
        {
            await undo.RunAsync();
            throw;
        }
    }

    /// <summary>Ends all microVMs of a data directory on which no server runs, and removes all resources of the instance.</summary>
    /// <param name="options">Paths of the directories.</param>
    /// <param name="removeVmmOrphans">Removes the VMMs' directories of all machines except those with the given ids.</param>
    /// <param name="time">The clock of limits.</param>
    /// <param name="cancellationToken">Cancels the clean-up between two steps.</param>
    /// <param name="host">The parts of the host; null for the real ones.</param>
    /// <returns>The number of microVMs that were found.</returns>
    /// <exception cref="StartupException">A server runs on the data directory, or the directory cannot be written to.</exception>
    public static async Task<int> CleanUpStoppedInstanceAsync(
        EngineOptions options, Action<IReadOnlySet<string>> removeVmmOrphans, TimeProvider time, CancellationToken cancellationToken,
        NodeHost? host = null)
    {
        host ??= new NodeHost();
        using var instance = Instance.Open(options, host.LockDirectory);
        var cgroups = CgroupTree.Create(instance.Names.CgroupName, host.CgroupRoot);
        var found = MicroVmRecovery.Find(instance.Names.RunDirectory);
        var cleanup = new OrphanCleanup(
            instance.Names, cgroups, removeVmmOrphans, time, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await Task.WhenAll(found.Select(cleanup.KillAsync));
        // The network last: an error there must not stop the removal of the rest.
        await cleanup.RemoveAsync([], (_, _) => Task.CompletedTask);
        await host.CleanUpNetwork(instance.Names, options, cancellationToken);
        await RemoveCgroupsAsync(cgroups, time);
        return found.Count;
    }

    /// <summary>Stops the node.</summary>
    /// <param name="keep">Detach from sandboxes and warm microVMs, which live on for the next server, instead of ending them.</param>
    public Task StopAsync(bool keep) => StopAsync(keep, Drain);

    /// <summary>Stops the node.</summary>
    /// <param name="keep">Detach from sandboxes and warm microVMs, which live on for the next server, instead of ending them.</param>
    /// <param name="drain">Longest time that commands may continue when sandboxes stay alive.</param>
    internal async Task StopAsync(bool keep, TimeSpan drain)
    {
        (_undo.Keeps, _drain) = (keep, drain);
        await DisposeAsync();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _recovering.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await _undo.RunAsync();
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "undo disposes each part, when a later step fails or when the node stops")]
    private static async Task<PandoraEngine> OpenAsync(
        EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers, NodeHost host,
        FindProject? projects, UndoStack undo, CancellationToken cancellationToken)
    {
        var logger = loggers.CreateLogger<PandoraEngine>();
        var instance = Instance.Open(options, host.LockDirectory);
        undo.Push(instance);
        var names = instance.Names;
        var templates = new TemplateStore(options.TemplatePath);
        LogVmm(logger, vmm.Capabilities.Name, vmm.Capabilities.Version, vmm.Capabilities.Accelerator, vmm.Capabilities.AcceleratorReason);
        RequireTemplates(options.PooledTemplates, templates);
        IReadOnlyList<FoundRecord> found =
            [.. MicroVmRecovery.Find(names.RunDirectory).Select(f => IsOfNoPool(f, templates) ? f with { Problem = OfNoPool } : f)];
        // A server that fails to open must not end the microVMs of an earlier server.
        undo.Keeps = found.Count > 0;

        var cgroups = CgroupTree.Create(names.CgroupName, host.CgroupRoot);
        undo.Push(() => new ValueTask(undo.Keeps ? Task.CompletedTask : RemoveCgroupsAsync(cgroups, time)));
        LogLimits(logger, cgroups.Description);
        foreach (var warning in instance.Repaired.Concat(vmm.Capabilities.Warnings))
        {
            LogWarning(logger, warning);
        }

        var guests = await host.OpenGuests(options, time, loggers, cancellationToken);
        undo.Push(guests);
        var network = await host.OpenNetwork(
            new NetworkSetup(names, options, SlotsOf(found, options), metrics.Meter, time, loggers), cancellationToken);
        undo.Push(() => new ValueTask(network.CloseAsync(undo.Keeps)));
        found = [.. found.Select(f => f.Problem is null && network.RefusalOf(f.Record!.Slot) is { } why ? f with { Problem = why } : f)];

        var capacity = host.ReadCapacity();
        var budget = new HostBudget(capacity, options, vmm.Capabilities.MemoryOverhead);
        MustHoldOne(budget, capacity, templates.Find(EngineOptions.DefaultTemplate)!.Size);
        if (cgroups.LimitAll(Math.Max(0, capacity.MemoryMib - options.MemoryReserve) * MiB) is { } unlimited && cgroups.CanLimit)
        {
            LogWarning(logger, $"the memory of all VMMs together is not limited: {unlimited}");
        }

        LogBudget(logger, budget.MemoryMib, budget.Vcpus, capacity.MemoryMib, capacity.Processors);
        var room = new DiskRoom(options, names.DiskDirectory, loggers.CreateLogger<DiskRoom>());
        var live = new LiveMicroVms();
        var launcher = new MicroVmLauncher(
            options, names, templates, network, live, cgroups, vmm, guests, host.FormatDisk, budget, metrics, time, loggers);
        undo.Push(launcher);
        var permits = new StartPermits(options.MostBoots);
        var snapshots = OpenSnapshots(options, vmm, templates, launcher, room, permits, metrics, time, loggers);
        if (snapshots is not null)
        {
            undo.Push(snapshots.DisposeAsync);
        }

        var provisioner = new MicroVmProvisioner(
            templates, launcher, snapshots, budget, permits, time, loggers.CreateLogger<MicroVmProvisioner>());
        var expected = found.Where(f => f is { Problem: null, Record.Claim: null }).GroupBy(f => f.Record!.Template)
            .ToDictionary(g => g.Key, g => g.Count());
        var pools = new WarmPools(options, provisioner, expected, metrics, time, loggers.CreateLogger<WarmPool>());
        var sandboxes = new SandboxRegistry(options, pools, network, room, budget, metrics, time, loggers, projects);
        var cleanup = new OrphanCleanup(names, cgroups, vmm.RemoveOrphans, time, logger);
        string[] notes = [.. vmm.Capabilities.Warnings, .. cgroups.CanLimit ? Array.Empty<string>() : [cgroups.Description]];
        _ = new EngineGauges(
            metrics.Meter, options, names.InstanceId, vmm.Capabilities, room, sandboxes, pools, budget, network, cgroups.ReadUsage);
        var engine = new PandoraEngine(
            new Parts(options, names, vmm, notes, network, room, budget, live, launcher, pools, sandboxes, cleanup, metrics, time,
                host.WatchTime ?? time, loggers),
            undo, found);
        undo.Push(engine.EndMicroVmsAsync);
        undo.Keeps = false;
        return engine;
    }

    // Pools and sandboxes end at the same time: they share no resource.
    private async ValueTask EndMicroVmsAsync()
    {
        if (_undo.Keeps)
        {
            await Task.WhenAll(Pools.DetachAsync(), Sandboxes.DetachAsync(_drain));
            return;
        }

        await Task.WhenAll(Pools.DisposeAsync().AsTask(), Sandboxes.CloseAsync());
        if (HasUnrecovered || _parts.Launcher.HasFailedTeardown)
        {
            // End the microVMs that the recovery had not reached when the server stopped, and try again to remove what a teardown could
            // not.
            await Task.WhenAll(_found.Select(_parts.OrphanCleanup.KillAsync));
            await _parts.OrphanCleanup.RemoveAsync([], _parts.Network.RemoveOrphansAsync);
            foreach (var found in _found.Where(f => f.Record is not null))
            {
                _parts.Network.Forget(found.Record!.Slot);
            }
        }
    }

    private static IReadOnlyList<LivingSlot> SlotsOf(IEnumerable<FoundRecord> found, EngineOptions options) =>
    [
        .. found.Where(f => f.Problem is null).Select(f => f.Record!).Select(r => new LivingSlot(
            r.Slot, r.Id, r.Network, r.Address,
            (r.Claim?.EgressPolicy ?? new EgressPolicy(options.DefaultEgress)).Limit(options.Egress))),
    ];

    private static async Task RemoveCgroupsAsync(CgroupTree cgroups, TimeProvider time)
    {
        foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
        {
            await CgroupTree.RemoveAsync(path, time);
        }
    }

    // Whether it was unclaimed and has another size than its template's. Pools of other sizes keep nothing warm.
    private static bool IsOfNoPool(FoundRecord found, TemplateStore templates)
    {
        try
        {
            return found is { Problem: null, Record: { Claim: null, Size: { } size } record }
                && templates.Read(record.Template) is { } template && template.Size != size;
        }
        catch (StartupException)
        {
            // The template cannot be read; the pool of its microVMs reports that.
            return false;
        }
    }

    // Else the pool would be empty for ever, without a reason that an operator sees.
    private static void MustHoldOne(HostBudget budget, HostCapacity capacity, MicroVmSize size)
    {
        if (budget.MemoryOf(size) > budget.MemoryMib || size.Vcpus > budget.Vcpus)
        {
            throw new StartupException(
                $"a microVM of the default template needs {budget.MemoryOf(size)} MiB and {size.Vcpus} virtual CPUs, and all microVMs "
                    + $"together may have {budget.MemoryMib} MiB and {budget.Vcpus} of this host's {capacity.MemoryMib} MiB and "
                    + $"{capacity.Processors} processors: lower PANDORA_MEMORY_RESERVE, or raise PANDORA_MEMORY_OVERCOMMIT or "
                    + "PANDORA_CPU_OVERCOMMIT");
        }
    }

    private static void RequireTemplates(IEnumerable<string> names, TemplateStore templates)
    {
        foreach (var name in names)
        {
            if (templates.Find(name) is null)
            {
                throw new StartupException(
                    $"there is no template '{name}' in {templates.Root}: './pandora template build {name}' builds it, and './pandora "
                        + "up' builds the default one itself");
            }
        }
    }

    private static SnapshotSource? OpenSnapshots(
        EngineOptions options, IVmm vmm, TemplateStore templates, MicroVmLauncher launcher, DiskRoom room, StartPermits permits,
        EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
    {
        var store = new SnapshotStore(options.SnapshotDir);
        store.Sweep(templates.Has);
        if (options.PoolStart == PoolStart.Boot || vmm.SnapshotCompatibility is null)
        {
            var warnings = string.Concat(vmm.Capabilities.Warnings.Select(w => $"; {w}"));
            var reason = options.PoolStart == PoolStart.Boot
                ? "PANDORA_POOL_START=boot"
                : $"{vmm.Capabilities.Name} cannot restore snapshots on this host{warnings}";
            LogBootsOnly(loggers.CreateLogger<PandoraEngine>(), reason);
            return null;
        }

        return new SnapshotSource(store, launcher.SnapshotKeyOf, launcher.MakeSnapshotAsync, room.HasRoomFor, permits, metrics, time,
            loggers.CreateLogger<SnapshotSource>());
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VMM: {Name} {Version} with {Accelerator} ({Reason})")]
    private static partial void LogVmm(ILogger logger, string name, string version, string accelerator, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Warning}")]
    private static partial void LogWarning(ILogger logger, string warning);

    [LoggerMessage(Level = LogLevel.Information, Message = "MicroVMs are booted, not restored from snapshots: {Reason}")]
    private static partial void LogBootsOnly(ILogger logger, string reason);

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "All microVMs together may have {Memory} MiB and {Vcpus} virtual CPUs; the host has {HostMemory} MiB and {Processors} "
            + "processors")]
    private static partial void LogBudget(ILogger logger, long memory, int vcpus, long hostMemory, int processors);

    [LoggerMessage(Level = LogLevel.Information, Message = "Limits of VMMs: {Limits}")]
    private static partial void LogLimits(ILogger logger, string limits);

    private sealed record Parts(
        EngineOptions Options,
        HostNames Names,
        IVmm Vmm,
        IReadOnlyList<string> Notes,
        IHostNetwork Network,
        DiskRoom Room,
        HostBudget Budget,
        LiveMicroVms Live,
        MicroVmLauncher Launcher,
        WarmPools Pools,
        SandboxRegistry Sandboxes,
        OrphanCleanup OrphanCleanup,
        EngineMetrics Metrics,
        TimeProvider Time,
        TimeProvider WatchTime,
        ILoggerFactory Loggers);
}
