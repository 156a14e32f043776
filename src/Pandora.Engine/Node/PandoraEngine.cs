using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;
using Pandora.Engine.Recovery;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;
using Pandora.Linux;
using Pandora.Vmm;

namespace Pandora.Engine.Node;

/// <summary>
/// One node: what it is made of, and in which order. Opening it is (1) lock the data directory, (2) read what an earlier server left,
/// (3) network, (4) what starts microVMs, (5) pools and sandboxes; then, while clients are told to wait, <see cref="RecoverAsync()"/> takes
/// over what lives and undoes the rest. <see cref="StopAsync(bool)"/> undoes all in reverse, or leaves what lives to the next server.
/// </summary>
public sealed partial class PandoraEngine : IAsyncDisposable
{
    // How long commands may run on when the server stops and sandboxes live on.
    private static readonly TimeSpan Drain = TimeSpan.FromSeconds(10);
    private readonly CancellationTokenSource _stopping = new();
    private readonly Parts _parts;
    private readonly UndoStack _undo;
    private IReadOnlyList<FoundRecord> _found;
    private Task _recovering = Task.CompletedTask;
    private TimeSpan _drain = Drain;

    private PandoraEngine(Parts parts, UndoStack undo, IReadOnlyList<FoundRecord> found) => (_parts, _undo, _found) = (parts, undo, found);

    /// <summary>The sandboxes.</summary>
    public SandboxRegistry Sandboxes => _parts.Sandboxes;

    /// <summary>What this node is and how it stands.</summary>
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
                Sandboxes.IsRecovering, IsProtected: missing is null);
        }
    }

    /// <summary>Whether an earlier server left microVMs that have been neither taken over nor undone yet.</summary>
    public bool HasLeftovers => _found.Count > 0;

    /// <summary>The pools.</summary>
    internal WarmPools Pools => _parts.Pools;

    /// <summary>Opens a node. Its sandboxes cannot be used before <see cref="RecoverAsync()"/> is done.</summary>
    /// <param name="options">Its settings.</param>
    /// <param name="vmm">Runs its virtual machines.</param>
    /// <param name="metrics">Where it counts.</param>
    /// <param name="time">For limits, intervals and ages.</param>
    /// <param name="loggers">Where it tells what it does.</param>
    /// <param name="cancellationToken">Ends the opening; nothing is left.</param>
    /// <param name="host">What it uses of the host.</param>
    /// <exception cref="StartupException">Something is missing or contradictory; nothing is left behind.</exception>
    public static async Task<PandoraEngine> OpenAsync(
        EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers,
        CancellationToken cancellationToken, NodeHost? host = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        var undo = new UndoStack(loggers.CreateLogger<PandoraEngine>());
        try
        {
            return await OpenAsync(options, vmm, metrics, time, loggers, host ?? new NodeHost(), undo, cancellationToken);
        }
        catch
        {
            await undo.RunAsync();
            throw;
        }
    }

    /// <summary>Ends all that a server left of a data directory on which none runs now, and removes it.</summary>
    /// <param name="options">Where the directories are.</param>
    /// <param name="removeOfVmm">Removes what VMMs left, but for that of the machines with some ids.</param>
    /// <param name="time">For limits.</param>
    /// <param name="cancellationToken">Ends it between two steps.</param>
    /// <param name="host">What it uses of the host.</param>
    /// <returns>How many microVMs there were.</returns>
    /// <exception cref="StartupException">A server runs on it, or it cannot be written to.</exception>
    public static async Task<int> CleanUpStoppedInstanceAsync(
        EngineOptions options, Action<IReadOnlySet<string>> removeOfVmm, TimeProvider time, CancellationToken cancellationToken,
        NodeHost? host = null)
    {
        host ??= new NodeHost();
        using var instance = Instance.Open(options, host.LockDirectory);
        var cgroups = CgroupTree.Create(instance.Names.CgroupName, host.CgroupRoot);
        var found = MicroVmRecovery.Find(instance.Names.RunDirectory);
        var leftovers = new OrphanCleanup(
            instance.Names, cgroups, removeOfVmm, time, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await Task.WhenAll(found.Select(leftovers.KillAsync));
        // The network last: what cannot be removed there is no reason to leave the rest.
        await leftovers.RemoveAsync([], (_, _) => Task.CompletedTask);
        await host.CleanUpNetwork(instance.Names, options, cancellationToken);
        await RemoveCgroupsAsync(cgroups, time);
        return found.Count;
    }

    /// <summary>Stops the node.</summary>
    /// <param name="keep">Leave sandboxes and warm microVMs alive for the next server, instead of ending them.</param>
    public Task StopAsync(bool keep) => StopAsync(keep, Drain);

    /// <summary>Stops the node.</summary>
    /// <param name="keep">Leave sandboxes and warm microVMs alive for the next server, instead of ending them.</param>
    /// <param name="drain">How long commands may run on when they are left alive.</param>
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
        EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers, NodeHost host, UndoStack undo,
        CancellationToken cancellationToken)
    {
        var logger = loggers.CreateLogger<PandoraEngine>();
        var instance = Instance.Open(options, host.LockDirectory);
        undo.Push(instance);
        var names = instance.Names;
        var templates = new TemplateStore(options.TemplatePath);
        LogVmm(logger, vmm.Capabilities.Name, vmm.Capabilities.Version, vmm.Capabilities.Accelerator, vmm.Capabilities.AcceleratorReason);
        MustHave(options.PooledTemplates, templates);
        var found = MicroVmRecovery.Find(names.RunDirectory);
        // What an earlier server left is not this one's to end when it cannot even open.
        undo.Keeps = found.Count > 0;

        var cgroups = CgroupTree.Create(names.CgroupName, host.CgroupRoot);
        undo.Push(() => new ValueTask(undo.Keeps ? Task.CompletedTask : RemoveCgroupsAsync(cgroups, time)));
        LogLimits(logger, cgroups.Description);
        foreach (var warning in instance.Mended.Concat(vmm.Capabilities.Warnings))
        {
            LogWarning(logger, warning);
        }

        var guests = await host.OpenGuests(options, time, loggers, cancellationToken);
        undo.Push(guests);
        var network = await host.OpenNetwork(
            new NetworkSetup(names, options, SlotsOf(found, options), metrics.Meter, time, loggers), cancellationToken);
        undo.Push(() => new ValueTask(network.CloseAsync(undo.Keeps)));
        found = [.. found.Select(f => f.Problem is null && network.RefusalOf(f.Record!.Slot) is { } why ? f with { Problem = why } : f)];

        var room = new DiskRoom(options, names.DiskDirectory, loggers.CreateLogger<DiskRoom>());
        var live = new LiveMicroVms();
        var launcher = new MicroVmLauncher(options, names, templates, network, live, cgroups, vmm, guests, metrics, time, loggers);
        undo.Push(launcher);
        var permits = new SemaphoreSlim(options.MostBoots);
        undo.Push(permits);
        var snapshots = OpenSnapshots(options, vmm, templates, launcher, permits, metrics, time, loggers);
        if (snapshots is not null)
        {
            undo.Push(snapshots.DisposeAsync);
        }

        var provisioner = new MicroVmProvisioner(
            templates, launcher, snapshots, permits, options.MostBoots, loggers.CreateLogger<MicroVmProvisioner>());
        var expected = found.Where(f => f is { Problem: null, Record.Claim: null }).GroupBy(f => f.Record!.Template)
            .ToDictionary(g => g.Key, g => g.Count());
        var pools = new WarmPools(options, provisioner, expected, metrics, time, loggers.CreateLogger<WarmPool>());
        var sandboxes = new SandboxRegistry(options, pools, network, room, metrics, time, loggers);
        var leftovers = new OrphanCleanup(names, cgroups, vmm.RemoveOrphans, time, logger);
        string[] notes = [.. vmm.Capabilities.Warnings, .. cgroups.CanLimit ? Array.Empty<string>() : [cgroups.Description]];
        _ = new EngineGauges(
            metrics.Meter, options, names.InstanceId, vmm.Capabilities, room, sandboxes, pools, network, cgroups.ReadUsage);
        var engine = new PandoraEngine(
            new Parts(options, names, vmm, notes, network, room, live, launcher, pools, sandboxes, leftovers, metrics, time,
                host.WatchTime ?? time, loggers),
            undo, found);
        undo.Push(engine.EndMicroVmsAsync);
        undo.Keeps = false;
        return engine;
    }

    // Pools and sandboxes end at the same time: they have no resource in common.
    private async ValueTask EndMicroVmsAsync()
    {
        if (_undo.Keeps)
        {
            await Task.WhenAll(Pools.DetachAsync(), Sandboxes.DetachAsync(_drain));
            return;
        }

        await Task.WhenAll(Pools.DisposeAsync().AsTask(), Sandboxes.CloseAsync());
        if (HasLeftovers || _parts.Launcher.HasLeft)
        {
            // Stopped while it recovered, what was not reached ends as well; and what could not be undone earlier goes now.
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
            r.Slot, r.Id, r.Network, r.Address, options.Limit(r.Claim?.Egress ?? options.DefaultEgress))),
    ];

    private static async Task RemoveCgroupsAsync(CgroupTree cgroups, TimeProvider time)
    {
        foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
        {
            await CgroupTree.RemoveAsync(path, time);
        }
    }

    private static void MustHave(IEnumerable<string> names, TemplateStore templates)
    {
        foreach (var name in names)
        {
            if (templates.Find(name) is null)
            {
                throw new StartupException(
                    $"there is no template '{name}' in {templates.Root}: './pandora template build {name}' builds it, and './pandora "
                        + "up' does so by itself for the default one");
            }
        }
    }

    private static SnapshotSource? OpenSnapshots(
        EngineOptions options, IVmm vmm, TemplateStore templates, MicroVmLauncher launcher, SemaphoreSlim permits, EngineMetrics metrics,
        TimeProvider time, ILoggerFactory loggers)
    {
        var store = new SnapshotStore(options.SnapshotDir);
        store.Sweep(templates.Has);
        if (options.PoolStart == PoolStart.Boot || vmm.SnapshotCompatibility is null)
        {
            var reason = options.PoolStart == PoolStart.Boot ? "PANDORA_POOL_START=boot"
                : $"{vmm.Capabilities.Name} cannot restore snapshots here{string.Concat(vmm.Capabilities.Warnings.Select(w => $"; {w}"))}";
            LogBootsOnly(loggers.CreateLogger<PandoraEngine>(), reason);
            return null;
        }

        return new SnapshotSource(store, launcher.SnapshotKeyOf, launcher.MakeSnapshotAsync, permits, metrics, time,
            loggers.CreateLogger<SnapshotSource>());
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VMM: {Name} {Version} with {Accelerator} ({Reason})")]
    private static partial void LogVmm(ILogger logger, string name, string version, string accelerator, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Warning}")]
    private static partial void LogWarning(ILogger logger, string warning);

    [LoggerMessage(Level = LogLevel.Information, Message = "MicroVMs are booted, not restored from snapshots: {Reason}")]
    private static partial void LogBootsOnly(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Limits of VMMs: {Limits}")]
    private static partial void LogLimits(ILogger logger, string limits);

    private sealed record Parts(
        EngineOptions Options,
        HostNames Names,
        IVmm Vmm,
        IReadOnlyList<string> Notes,
        IHostNetwork Network,
        DiskRoom Room,
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
