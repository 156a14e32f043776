using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Pools;

/// <summary>
/// The warm pools of a node: one for each template, and one for each size other than its template's that clients ask for. A pool is made
/// when it is first needed.
/// </summary>
public sealed class WarmPools : IAsyncDisposable
{
    // Of a template that cannot be read; its starts fail.
    private static readonly MicroVmSize Smallest = new(0, 0, 0);

    private readonly ConcurrentDictionary<string, Lazy<WarmPool>> _pools = new();
    private readonly ConcurrentDictionary<string, bool> _templates = new();
    private readonly VariantPools _variants;
    private readonly EngineOptions _options;
    private readonly MicroVmProvisioner _provisioner;
    private readonly IReadOnlyDictionary<string, int> _expected;
    private readonly EngineMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;

    /// <param name="options">Sizes and limits.</param>
    /// <param name="provisioner">Starts the microVMs.</param>
    /// <param name="expected">How many warm microVMs of an earlier server may still be adopted, by template.</param>
    /// <param name="metrics">Counts the failures.</param>
    /// <param name="time">The clock of pauses and waits.</param>
    /// <param name="logger">Log of the failures.</param>
    internal WarmPools(
        EngineOptions options, MicroVmProvisioner provisioner, IReadOnlyDictionary<string, int> expected, EngineMetrics metrics,
        TimeProvider time, ILogger logger)
    {
        _options = options;
        _provisioner = provisioner;
        _expected = expected;
        _metrics = metrics;
        _time = time;
        _logger = logger;
        _variants = new VariantPools(MakeVariant, time, logger);
        provisioner.Budget.GiveWay = GiveWay;
        provisioner.Budget.Freed += WakeAll;
    }

    /// <summary>All pools that exist.</summary>
    public IReadOnlyList<WarmPool> All => [.. _pools.Values.Where(p => p.IsValueCreated).Select(p => p.Value), .. _variants.All];

    /// <summary>Names of the templates that have or had a pool, in any size.</summary>
    public IReadOnlyCollection<string> Templates => [.. _templates.Keys];

    /// <summary>The number of warm microVMs of a template in its own size.</summary>
    public int WarmCountOf(string template) => _pools.TryGetValue(template, out var pool) ? pool.Value.WarmCount : 0;

    /// <summary>Finds the pool of a template in a size; null when there is no such template.</summary>
    /// <param name="template">Name of the template.</param>
    /// <param name="wanted">The size that the client asks for; null for the template's.</param>
    /// <param name="project">The client's project.</param>
    /// <exception cref="PandoraException">The size is outside of the template's bounds, or too many sizes are in use.</exception>
    internal PoolLease? Find(string template, WantedSize? wanted, string project)
    {
        if (wanted is null)
        {
            return _pools.ContainsKey(template) || _provisioner.Find(template) is not null
                ? new PoolLease(Of(template), Of(template).MicroVmSize)
                : null;
        }

        // The template is read again, because it may have been built again with other bounds.
        if (_provisioner.Find(template) is not { } found)
        {
            return null;
        }

        var variant = found.In(found.Resolve(wanted));
        return variant.IsVariant ? _variants.Lease(variant, project) : new PoolLease(Of(template), found.Size, isRequested: true);
    }

    /// <summary>
    /// The pool of a template in its own size. The template need not exist: microVMs of a removed template may still run.
    /// </summary>
    public WarmPool Of(string template) => _pools.GetOrAdd(template, t => new Lazy<WarmPool>(() => Make(t))).Value;

    /// <summary>Stops booting, and detaches from the warm microVMs, which run on for the next server.</summary>
    public Task DetachAsync() => CloseAsync(p => p.DetachAsync());

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await CloseAsync(p => p.DisposeAsync().AsTask());

    // The pool with the most warm microVMs gives way.
    private Task? GiveWay(HostBudget.Room missing)
    {
        var warm = All.Select(p => (Pool: p, Count: p.WarmCount, Size: p.MicroVmSize ?? Smallest)).Where(p => p.Count > 0).ToList();
        if (warm.Sum(p => p.Count * _provisioner.Budget.MemoryOf(p.Size)) < missing.MemoryMib
            || warm.Sum(p => (long)p.Count * p.Size.Vcpus) < missing.Vcpus)
        {
            // Without all of them there is no room either.
            return null;
        }

        return warm.OrderByDescending(p => p.Count).Select(p => p.Pool.GiveWay()).FirstOrDefault(ending => ending is not null);
    }

    private void WakeAll()
    {
        foreach (var pool in All)
        {
            pool.Wake();
        }
    }

    private Task CloseAsync(Func<WarmPool, Task> close) => Task.WhenAll(
        [_variants.CloseAsync(close), .. _pools.Values.Where(p => p.IsValueCreated).Select(p => close(p.Value))]);

    private WarmPool Make(string template)
    {
        _templates[template] = true;
        var size = _provisioner.Prepare(template);
        return Make(
            template, size, _options.PoolSizeFor(template), _expected.GetValueOrDefault(template),
            (awaitedBy, token) => _provisioner.ProvisionAsync(template, size: null, awaitedBy, token),
            static (m, token) => m.Agent?.SetClockAsync(token) ?? Task.CompletedTask);
    }

    // Without maintenance: its microVMs are handed out when they are ready. The client's microVM boots before a snapshot is made.
    private WarmPool MakeVariant(Template variant)
    {
        _templates[variant.Name] = true;
        return Make(
            variant.Name, variant.Size, size: 0, expected: 0,
            (awaitedBy, token) => _provisioner.ProvisionAsync(variant.Name, variant.Size, awaitedBy, token), maintain: null);
    }

    private WarmPool Make(
        string template, MicroVmSize? microVmSize, int size, int expected,
        Func<Func<string?>, CancellationToken, Task<MicroVm>> provision, Func<MicroVm, CancellationToken, Task>? maintain)
    {
        WarmPool? pool = null;
        pool = new WarmPool(
            template, size, _provisioner.PermitCount, ProvisionAsync, m => m.Teardown.CompleteAsync(), _metrics, _time, _logger,
            _options.MaxWaiting, expected, maintain, () => _provisioner.Budget.HasRoomToWarm(pool?.MicroVmSize ?? Smallest),
            () => _provisioner.Budget.IsShort)
        {
            MicroVmSize = microVmSize,
        };
        return pool;

        async Task<MicroVm> ProvisionAsync(CancellationToken cancellationToken)
        {
            var microVm = await provision(() => pool?.NextProject, cancellationToken);
            // The template may have been built again with another size.
            pool?.MicroVmSize = microVm.Size;
            return microVm;
        }
    }
}
