using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guest;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Observability;
using Pandora.Engine.Pool;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Templates;
using Pandora.Vmm;
using Pandora.Vmm.Linux;

namespace Pandora.Engine;

/// <summary>
/// One node: (1) lock the data directory, (2) undo a dead server's leftovers, (3) network, (4) slots, (5) pools. <see cref="DisposeAsync"/> undoes them in reverse.
/// </summary>
public sealed partial class PandoraEngine : IAsyncDisposable
{
    private readonly Stack<Func<ValueTask>> _undo = new();
    private readonly ConcurrentDictionary<string, Lazy<WarmPool>> _pools = new();
    private readonly EngineOptions _options;
    private readonly TemplateStore _templates;
    private readonly EngineMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly ILoggerFactory _loggers;
    private readonly SemaphoreSlim _bootPlaces;
    private readonly int _maxBoots;
    private readonly IVmm _vmm;
    private Instance _instance = null!;
    private IReadOnlyList<string> _notes = [];
    private MicroVmLauncher _launcher = null!;
    private HostNetwork _network = null!;

    private PandoraEngine(EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
    {
        _options = options;
        _vmm = vmm;
        _metrics = metrics;
        _time = time;
        _loggers = loggers;
        _templates = new TemplateStore(options.TemplatePath);
        _maxBoots = options.BootParallelism > 0 ? options.BootParallelism : Environment.ProcessorCount;
        _bootPlaces = new SemaphoreSlim(_maxBoots);
        Sandboxes = new SandboxRegistry(options, PoolFor, (m, e) => _network.SetEgress(m.Slot, e), metrics, time, loggers);
    }

    /// <summary>The sandboxes.</summary>
    public SandboxRegistry Sandboxes { get; }

    /// <summary>What this node is and how it stands.</summary>
    public NodeStatus Status => new(
        _instance.Id, _vmm.Capabilities, _notes, _options.PoolSize, Pools.Sum(p => p.WarmCount),
        IsReady: _options.PoolSize == 0 || (_pools.TryGetValue(TemplateStore.DefaultName, out var pool) && pool.Value.WarmCount > 0));

    private IEnumerable<WarmPool> Pools => _pools.Values.Where(p => p.IsValueCreated).Select(p => p.Value);

    /// <summary>Starts a node.</summary>
    /// <exception cref="StartupException">Something is missing or contradictory; nothing is left behind.</exception>
    public static async Task<PandoraEngine> StartAsync(EngineOptions options, IVmm vmm, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers, CancellationToken cancellationToken)
    {
        options.Check();
        var engine = new PandoraEngine(options, vmm, metrics, time, loggers);
        try
        {
            await engine.StartAsync(cancellationToken);
            return engine;
        }
        catch
        {
            await engine.DisposeAsync();
            throw;
        }
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        while (_undo.TryPop(out var undo))
        {
            try
            {
                await undo();
            }
            catch (Exception e)
            {
                LogStopFailed(_loggers.CreateLogger<PandoraEngine>(), e);
            }
        }

        _bootPlaces.Dispose();
    }

    private async Task StartAsync(CancellationToken cancellationToken)
    {
        var logger = _loggers.CreateLogger<PandoraEngine>();
        _instance = Instance.Open(_options);
        _undo.Push(() =>
        {
            _instance.Dispose();
            return ValueTask.CompletedTask;
        });
        LogVmm(logger, _vmm.Capabilities.Name, _vmm.Capabilities.Version, _vmm.Capabilities.Accelerator, _vmm.Capabilities.AcceleratorReason);
        RequireTemplates();

        var cgroups = CgroupTree.Create(_instance.CgroupName);
        LogLimits(logger, cgroups.Description);
        _notes = [.. _vmm.Capabilities.Warnings, .. cgroups.CanLimit ? Array.Empty<string>() : [cgroups.Description]];
        foreach (var warning in _vmm.Capabilities.Warnings)
        {
            LogWarning(logger, warning);
        }

        _undo.Push(async () =>
        {
            foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
            {
                await CgroupTree.RemoveAsync(path, _time);
            }
        });
        await Recovery.RunAsync(_instance, _options, cgroups, _time, logger, cancellationToken);

        var key = await ClientKey.LoadAsync(_options.DataDir, cancellationToken);
        _undo.Push(() =>
        {
            key.Dispose();
            return ValueTask.CompletedTask;
        });
        _network = await HostNetwork.CreateAsync(_instance, _options, _loggers.CreateLogger<HostNetwork>(), cancellationToken);
        _undo.Push(_network.DisposeAsync);
        var slots = new SlotPool(_network, _instance, ahead: 2, _loggers.CreateLogger<SlotPool>());
        _undo.Push(slots.DisposeAsync);
        slots.Prepare();
        _launcher = new MicroVmLauncher(_options, _instance, slots, cgroups, _vmm, key, _network, _metrics, _time, _loggers);
        _undo.Push(EndMicroVmsAsync);
        _undo.Push(new Reaper(Sandboxes, _time, _loggers.CreateLogger<Reaper>()).DisposeAsync);
        foreach (var name in _options.PooledTemplates)
        {
            PoolFor(name);
        }

        _ = new EngineGauges(_metrics.Meter, _options, _instance.Id, _vmm.Capabilities, Sandboxes, () => [.. Pools], () => (slots.Count, slots.HeldCount), cgroups.ReadUsage);
    }

    // Pools and sandboxes end at the same time: they have no resource in common.
    private async ValueTask EndMicroVmsAsync() =>
        await Task.WhenAll(Pools.Select(p => p.DisposeAsync().AsTask()).Prepend(Sandboxes.CloseAsync()));

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

    private WarmPool? PoolFor(string name)
    {
        if (!_pools.ContainsKey(name) && _templates.Find(name) is null)
        {
            return null;
        }

        return _pools.GetOrAdd(name, n => new Lazy<WarmPool>(() => new WarmPool(
            n, _options.PoolSizeFor(n), _maxBoots, token => BootAsync(n, token), m => m.Teardown.CompleteAsync(), _metrics, _time, _loggers.CreateLogger<WarmPool>()))).Value;
    }

    // The template is read anew for each boot, so that a rebuilt one is used from the next on.
    private async Task<MicroVm> BootAsync(string name, CancellationToken cancellationToken)
    {
        await _bootPlaces.WaitAsync(cancellationToken);
        try
        {
            var template = _templates.Find(name) ?? throw new StartupException($"template '{name}' was removed");
            return await _launcher.LaunchAsync(template, cancellationToken);
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
public sealed record NodeStatus(string Instance, VmmCapabilities Vmm, IReadOnlyList<string> Notes, int PoolSize, int WarmCount, bool IsReady);
