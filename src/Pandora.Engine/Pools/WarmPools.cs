using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Pools;

/// <summary>The warm pools of a node, one for each template. A pool is made when it is first needed.</summary>
public sealed class WarmPools : IAsyncDisposable
{
    private readonly ConcurrentDictionary<string, Lazy<WarmPool>> _pools = new();
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
    }

    /// <summary>All pools that exist.</summary>
    public IReadOnlyList<WarmPool> All => [.. _pools.Values.Where(p => p.IsValueCreated).Select(p => p.Value)];

    /// <summary>The number of warm microVMs of a template.</summary>
    public int WarmCountOf(string template) => _pools.TryGetValue(template, out var pool) ? pool.Value.WarmCount : 0;

    /// <summary>Finds the pool of a template; null when there is no such template.</summary>
    public WarmPool? Find(string template) => _pools.ContainsKey(template) || _provisioner.Has(template) ? Of(template) : null;

    /// <summary>The pool of a template. The template need not exist: microVMs of a removed template may still run.</summary>
    public WarmPool Of(string template) => _pools.GetOrAdd(template, t => new Lazy<WarmPool>(() => Make(t))).Value;

    /// <summary>Stops booting, and detaches from the warm microVMs, which run on for the next server.</summary>
    public Task DetachAsync() => Task.WhenAll(All.Select(p => p.DetachAsync()));

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await Task.WhenAll(All.Select(p => p.DisposeAsync().AsTask()));

    private WarmPool Make(string template)
    {
        _provisioner.Prepare(template);
        WarmPool? pool = null;
        pool = new WarmPool(
            template, _options.PoolSizeFor(template), _provisioner.PermitCount,
            token => _provisioner.ProvisionAsync(template, () => pool is { WaitingCount: > 0 }, token),
            m => m.Teardown.CompleteAsync(), _metrics, _time, _logger, _options.MaxWaiting, _expected.GetValueOrDefault(template),
            static (m, token) => m.Agent?.SetClockAsync(token) ?? Task.CompletedTask);
        return pool;
    }
}
