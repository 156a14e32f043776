using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Recovery;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Pools;
using Pandora.Engine.Snapshots;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>
/// One node. Opening it is (1) lock the data directory, (2) read what an earlier server left, (3) network, (4) slots; then, while clients are told to wait, (5) take over what lives and undo the rest, (6) pools.
/// <see cref="StopAsync"/> undoes them in reverse, or leaves what lives to the next server.
/// </summary>
public sealed partial class PandoraEngine : IAsyncDisposable
{
    // How long commands may run on when the server stops and sandboxes live on.
    private static readonly TimeSpan Drain = TimeSpan.FromSeconds(10);
    private readonly Stack<Func<ValueTask>> _undo = new();
    private readonly ConcurrentDictionary<string, Lazy<WarmPool>> _pools = new();
    private readonly CancellationTokenSource _stopping = new();
    private readonly EngineOptions _options;
    private readonly TemplateStore _templates;
    private readonly EngineMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly ILogger _logger;
    private readonly SemaphoreSlim _bootPlaces;
    private readonly int _maxBoots;
    private readonly IVmm _vmm;
    private Instance _instance = null!;
    private CgroupTree _cgroups = null!;
    private IReadOnlyList<string> _notes = [];
    private IReadOnlyList<Found> _found = [];
    private readonly LiveMicroVms _live = new();
    private MicroVmLauncher _launcher = null!;
    private HostNetwork _network = null!;
    private SlotPool _slots = null!;
    private NetworkWatch? _watch;
    private DiskRoom? _room;
    private SnapshotSource? _snapshots;
    private Leftovers _leftovers = null!;
    private Task _recovering = Task.CompletedTask;
    private bool _keeps;

    private PandoraEngine(EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _vmm = vmm;
        _metrics = metrics;
        _time = time;
        _loggers = loggers;
        _logger = loggers.CreateLogger<PandoraEngine>();
        _templates = new TemplateStore(options.TemplatePath);
        _maxBoots = options.MostBoots;
        _bootPlaces = new SemaphoreSlim(_maxBoots);
        Sandboxes = new SandboxRegistry(
            options, PoolFor, (m, e) => _network.SetEgressAsync(m.Slot, e), EnsureClaimableAsync, metrics, time, loggers);
    }

    /// <summary>The sandboxes.</summary>
    public SandboxRegistry Sandboxes { get; }

    /// <summary>What this node is and how it stands.</summary>
    public NodeStatus Status => new(
        _instance.Id, _vmm.Capabilities, [.. _notes, .. new[] { _watch?.Missing, _room?.Warning }.OfType<string>()], _options.PoolSize,
        Pools.Sum(p => p.WarmCount),
        IsReady: Sandboxes.IsOpen && _watch is not { Missing: not null }
            && (_options.PoolSize == 0 || (_pools.TryGetValue(TemplateStore.DefaultName, out var pool) && pool.Value.WarmCount > 0)),
        Sandboxes.IsRecovering, IsProtected: _watch is null or { Missing: null });

    /// <summary>Whether an earlier server left microVMs that have been neither taken over nor undone yet.</summary>
    public bool HasLeftovers => _found.Count > 0;

    private IEnumerable<WarmPool> Pools => _pools.Values.Where(p => p.IsValueCreated).Select(p => p.Value);

    /// <summary>Opens a node. Its sandboxes cannot be used before <see cref="RecoverAsync"/> is done.</summary>
    /// <exception cref="StartupException">Something is missing or contradictory; nothing is left behind.</exception>
    public static async Task<PandoraEngine> OpenAsync(EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken)
    {
        options.Check();
        var engine = new PandoraEngine(options, vmm, metrics, time, loggers);
        try
        {
            await engine.OpenAsync(cancellationToken);
            return engine;
        }
        catch
        {
            // What an earlier server left is not this one's to end when it could not even open.
            engine._keeps = engine.HasLeftovers;
            await engine.DisposeAsync();
            throw;
        }
    }

    /// <summary>Ends all that a server left of a data directory on which none runs now, and removes it.</summary>
    /// <returns>How many microVMs there were.</returns>
    /// <exception cref="StartupException">A server runs on it, or it cannot be written to.</exception>
    public static async Task<int> EndLeftAsync(EngineOptions options, TimeProvider time, CancellationToken cancellationToken)
    {
        using var instance = Instance.Open(options);
        var cgroups = CgroupTree.Create(instance.CgroupName);
        var found = MicroVmRecovery.Find(instance.RunDirectory);
        var leftovers = new Leftovers(
            instance, cgroups, options.JailDir, options.Network, time, Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);
        await Task.WhenAll(found.Select(leftovers.KillAsync));
        await leftovers.RemoveAsync([]);
        await HostNetwork.RemoveAsync(instance, options, cancellationToken);
        new SlotLedger(instance.RunDirectory).Clear();
        await RemoveCgroupsAsync(cgroups, time);
        return found.Count;
    }

    /// <summary>Takes over what an earlier server left, undoes what does not live, starts the pools and lets clients in.</summary>
    public Task RecoverAsync() => _recovering = RecoverAsync(_stopping.Token);

    /// <summary>Stops the node.</summary>
    /// <param name="keep">Leave sandboxes and warm microVMs alive for the next server, instead of ending them.</param>
    public async Task StopAsync(bool keep)
    {
        _keeps = keep;
        await DisposeAsync();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await _stopping.CancelAsync();
        await _recovering.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        while (_undo.TryPop(out var undo))
        {
            try
            {
                await undo();
            }
            catch (Exception e)
            {
                LogStopFailed(_logger, e);
            }
        }

        _bootPlaces.Dispose();
    }

    private async Task OpenAsync(CancellationToken cancellationToken)
    {
        _instance = Instance.Open(_options);
        _undo.Push(() =>
        {
            _instance.Dispose();
            return ValueTask.CompletedTask;
        });
        foreach (var mended in _instance.Mended)
        {
            LogWarning(_logger, mended);
        }

        LogVmm(_logger, _vmm.Capabilities.Name, _vmm.Capabilities.Version, _vmm.Capabilities.Accelerator, _vmm.Capabilities.AcceleratorReason);
        RequireTemplates();
        _found = MicroVmRecovery.Find(_instance.RunDirectory);

        _cgroups = CgroupTree.Create(_instance.CgroupName);
        LogLimits(_logger, _cgroups.Description);
        _notes = [.. _vmm.Capabilities.Warnings, .. _cgroups.CanLimit ? Array.Empty<string>() : [_cgroups.Description]];
        foreach (var warning in _vmm.Capabilities.Warnings)
        {
            LogWarning(_logger, warning);
        }

        _undo.Push(() => new ValueTask(_keeps ? Task.CompletedTask : RemoveCgroupsAsync(_cgroups, _time)));
        var key = await ClientKey.LoadAsync(_options.DataDir, cancellationToken);
        _undo.Push(() =>
        {
            key.Dispose();
            return ValueTask.CompletedTask;
        });

        var living = _found.Where(f => f.Problem is null).Select(f => f.Record!).ToList();
        _network = await HostNetwork.CreateAsync(_instance, _options, living, _loggers.CreateLogger<HostNetwork>(), cancellationToken);
        _undo.Push(CloseNetworkAsync);
        _found = [.. _found.Select(f => f is { Problem: null, Record: { } r } && NetworkSlot.At(r.Slot, _instance, _network.Range).Address.ToString() != r.Address ? f with { Problem = $"its address {r.Address} is not of this server's network {_network.Range}" } : f)];
        _found = [.. _found.Select(f => f is { Problem: null, Record: { } r } && !_network.IsGuarded(r.Slot) ? f with { Problem = "the rules of its network namespace could not be set" } : f)];
        _room = new DiskRoom(_options, _instance.DiskDirectory, _loggers.CreateLogger<DiskRoom>());
        _watch = new NetworkWatch(_network, _metrics.Meter, _time, _loggers.CreateLogger<NetworkWatch>());
        _undo.Push(_watch.DisposeAsync);
        _slots = new SlotPool(_network, _instance, _options.DefaultEgress, EngineOptions.SlotsAhead,
            _found.Where(f => f.Problem is null).ToDictionary(f => f.Record!.Slot, f => f.Id), _time, _loggers.CreateLogger<SlotPool>());
        _undo.Push(_slots.DisposeAsync);
        _launcher = new MicroVmLauncher(
            _options, _instance, _templates, _slots, _live, _cgroups, _vmm, key, _network, _metrics, _time, _loggers);
        _leftovers = new Leftovers(_instance, _cgroups, _options.JailDir, _options.Network, _time, _logger);
        PrepareSnapshots();
        _undo.Push(EndMicroVmsAsync);
        _ = new EngineGauges(_metrics.Meter, _options, _instance.Id, _vmm.Capabilities, _room, Sandboxes, () => [.. Pools],
            () => (_slots.Count, _slots.HeldCount), _cgroups.ReadUsage);
    }

    // Pools and sandboxes end at the same time: they have no resource in common.
    private async ValueTask EndMicroVmsAsync()
    {
        if (_keeps)
        {
            await Task.WhenAll(Pools.Select(p => p.SuspendAsync()).Prepend(Sandboxes.SuspendAsync(Drain)));
            return;
        }

        await Task.WhenAll(Pools.Select(p => p.DisposeAsync().AsTask()).Prepend(Sandboxes.CloseAsync()));
        if (HasLeftovers || _launcher.HasLeft)
        {
            // Stopped while it recovered, what was not reached ends as well; and what could not be undone earlier goes now.
            await Task.WhenAll(_found.Select(_leftovers.KillAsync));
            await _leftovers.RemoveAsync([]);
            foreach (var found in _found.Where(f => f.Record is not null))
            {
                _slots.Forget(found.Record!.Slot);
            }
        }
    }

    private async ValueTask CloseNetworkAsync()
    {
        if (_keeps)
        {
            _network.Leave();
            return;
        }

        await _network.DisposeAsync();
    }

    private static async Task RemoveCgroupsAsync(CgroupTree cgroups, TimeProvider time)
    {
        foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
        {
            await CgroupTree.RemoveAsync(path, time);
        }
    }

    private void RequireTemplates()
    {
        foreach (var name in _options.PooledTemplates)
        {
            if (_templates.Find(name) is null)
            {
                throw new StartupException($"there is no template '{name}' in {_templates.Root}: './pandora template build {name}' builds it, and './pandora up' does so by itself for the default one");
            }
        }
    }

    private void PrepareSnapshots()
    {
        var store = new SnapshotStore(_options.SnapshotDir);
        store.Sweep(_templates.Has);
        if (_options.PoolStart == PoolStart.Boot || _vmm.SnapshotCompatibility is null)
        {
            LogBootsOnly(_logger, _options.PoolStart == PoolStart.Boot ? "PANDORA_POOL_START=boot" : $"{_vmm.Capabilities.Name} cannot restore snapshots here{string.Concat(_vmm.Capabilities.Warnings.Select(w => $"; {w}"))}");
            return;
        }

        _snapshots = new SnapshotSource(store, t => _launcher.SnapshotKeyOf(t)!, _launcher.MakeSnapshotAsync, _bootPlaces, _metrics, _time, _loggers.CreateLogger<SnapshotSource>());
        _undo.Push(_snapshots.DisposeAsync);
    }

    private ValueTask EnsureClaimableAsync(CancellationToken cancellationToken)
    {
        _room!.Ensure();
        return _watch!.EnsureAsync(cancellationToken);
    }

    private WarmPool? PoolFor(string name) => !_pools.ContainsKey(name) && _templates.Find(name) is null ? null : MakePool(name);

    private WarmPool MakePool(string name) => _pools.GetOrAdd(name, n => new Lazy<WarmPool>(() =>
    {
        PrepareSnapshot(n);
        return new WarmPool(
            n, _options.PoolSizeFor(n), _maxBoots, token => StartAsync(n, token), m => m.Teardown.CompleteAsync(), _metrics, _time, _loggers.CreateLogger<WarmPool>(),
            _options.MaxWaiting, _found.Count(f => f.Problem is null && f.Record is { Claim: null } r && r.Template == n),
            static (m, token) => m.Agent?.SetClockAsync(token) ?? Task.CompletedTask);
    })).Value;

    // Before the first boots, which take the other places: all that come after it are several times faster. With one place they come first.
    private void PrepareSnapshot(string name)
    {
        try
        {
            if (_maxBoots > 1 && _templates.Find(name) is { } template)
            {
                _snapshots?.Prepare(template);
            }
        }
        catch (Exception e) when (e is StartupException or IOException or UnauthorizedAccessException)
        {
            // The pool is there all the same, and its boots say what is wrong.
            LogWarning(_logger, e.Message);
        }
    }

    // The template is read anew for each, so that a rebuilt one is used from the next on.
    private async Task<MicroVm> StartAsync(string name, CancellationToken cancellationToken)
    {
        await _bootPlaces.WaitAsync(cancellationToken);
        try
        {
            var template = _templates.Find(name) ?? throw new StartupException($"template '{name}' was removed");
            var snapshot = _snapshots is null ? null : await _snapshots.FindAsync(template, cancellationToken);
            bool IsAwaited() => _pools[name].Value.WaitingCount > 0;
            BootException? failure = null;
            try
            {
                var microVm = await _launcher.LaunchAsync(template, snapshot, IsAwaited, cancellationToken);
                _snapshots?.Succeeded(snapshot);
                return microVm;
            }
            catch (BootException e) when (
                snapshot is not null && e.Step is not (BootStep.Slot or BootStep.Record) && !cancellationToken.IsCancellationRequested)
            {
                failure = e;
            }

            var booted = await _launcher.LaunchAsync(template, snapshot: null, IsAwaited, cancellationToken);
            // Only now is it the snapshot's fault and not the host's.
            _snapshots!.Failed(snapshot, failure);
            return booted;
        }
        finally
        {
            _bootPlaces.Release();
        }
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "VMM: {Name} {Version} with {Accelerator} ({Reason})")]
    private static partial void LogVmm(ILogger logger, string name, string version, string accelerator, string reason);

    [LoggerMessage(Level = LogLevel.Warning, Message = "{Warning}")]
    private static partial void LogWarning(ILogger logger, string warning);

    [LoggerMessage(Level = LogLevel.Information, Message = "MicroVMs are booted, not restored from snapshots: {Reason}")]
    private static partial void LogBootsOnly(ILogger logger, string reason);

    [LoggerMessage(Level = LogLevel.Information, Message = "Limits of VMMs: {Limits}")]
    private static partial void LogLimits(ILogger logger, string limits);

    [LoggerMessage(Level = LogLevel.Error, Message = "A part of the engine could not be stopped; the next start undoes what it left")]
    private static partial void LogStopFailed(ILogger logger, Exception exception);
}

/// <summary>What a node is and how it stands.</summary>
/// <param name="Instance">Its instance id.</param>
/// <param name="Vmm">Its VMM.</param>
/// <param name="Notes">What an operator should know; empty when all is well.</param>
/// <param name="PoolSize">How many microVMs of the default template are kept warm.</param>
/// <param name="WarmCount">How many are warm now, in all pools.</param>
/// <param name="IsReady">Whether a claim would find a warm microVM, or none is kept warm at all.</param>
/// <param name="IsRecovering">Whether what an earlier server left is still being taken over.</param>
/// <param name="IsProtected">Whether what keeps guests in was whole when it was last looked at.</param>
public sealed record NodeStatus(string Instance, VmmCapabilities Vmm, IReadOnlyList<string> Notes, int PoolSize, int WarmCount,
    bool IsReady, bool IsRecovering, bool IsProtected);
