using System.Collections.Concurrent;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Pools;

/// <summary>The warm pools of a node, one a template. A template's is made when it is first asked for.</summary>
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
    /// <param name="provisioner">Makes microVMs.</param>
    /// <param name="expected">How many warm ones of an earlier server may still come, by template.</param>
    /// <param name="metrics">Where failures are counted.</param>
    /// <param name="time">For pauses and limits.</param>
    /// <param name="logger">Where failures are told.</param>
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

    /// <summary>Those there are.</summary>
    public IReadOnlyList<WarmPool> All => [.. _pools.Values.Where(p => p.IsValueCreated).Select(p => p.Value)];

    /// <summary>How many microVMs of a template are warm.</summary>
    public int WarmCountOf(string template) => _pools.TryGetValue(template, out var pool) ? pool.Value.WarmCount : 0;

    /// <summary>A template's pool; null when there is no such template.</summary>
    public WarmPool? Find(string template) => _pools.ContainsKey(template) || _provisioner.Has(template) ? Of(template) : null;

    /// <summary>A template's pool, whether there is such a template or not: microVMs of one that was removed live on.</summary>
    public WarmPool Of(string template) => _pools.GetOrAdd(template, t => new Lazy<WarmPool>(() => Make(t))).Value;

    /// <summary>Boots no more and leaves those that are warm as they are, for the next server.</summary>
    public Task DetachAsync() => Task.WhenAll(All.Select(p => p.DetachAsync()));

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await Task.WhenAll(All.Select(p => p.DisposeAsync().AsTask()));

    private WarmPool Make(string template)
    {
        _provisioner.Prepare(template);
        WarmPool? pool = null;
        pool = new WarmPool(
            template, _options.PoolSizeFor(template), _provisioner.Places,
            token => _provisioner.ProvisionAsync(template, () => pool is { WaitingCount: > 0 }, token),
            m => m.Teardown.CompleteAsync(), _metrics, _time, _logger, _options.MaxWaiting, _expected.GetValueOrDefault(template),
            static (m, token) => m.Agent?.SetClockAsync(token) ?? Task.CompletedTask);
        return pool;
    }
}
