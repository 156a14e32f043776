using Microsoft.Extensions.Logging;
using Pandora.Engine.Templates;

namespace Pandora.Engine.Pools;

/// <summary>
/// The pools of templates in other sizes than their own. They keep no microVM warm. Clients choose the sizes, so the number of pools is
/// bounded, and a pool ends when it was not used for some minutes. A claim holds a lease, and a pool with a lease does not end; so the
/// number of pools that one project leases at once has a bound of its own.
/// </summary>
/// <param name="make">Makes the pool of a variant.</param>
/// <param name="time">The clock of the minutes.</param>
/// <param name="logger">Log of a failure.</param>
internal sealed class VariantPools(Func<Template, WarmPool> make, TimeProvider time, ILogger logger)
{
    /// <summary>Most pools at once.</summary>
    public const int Most = 32;

    /// <summary>Most pools that the claims of one project use at once.</summary>
    public const int MostOfProject = 8;

    /// <summary>How long a pool that is not used exists, within <see cref="Interval"/>.</summary>
    public static readonly TimeSpan LongestUnused = TimeSpan.FromMinutes(5);

    /// <summary>Time between two looks at the pools.</summary>
    public static readonly TimeSpan Interval = TimeSpan.FromMinutes(1);

    private readonly Lock _lock = new();
    private readonly Dictionary<string, Entry> _pools = [];
    private readonly HashSet<Task> _ends = [];
    private PeriodicWork? _sweeps;
    private bool _isClosed;

    /// <summary>All pools that exist.</summary>
    public IReadOnlyList<WarmPool> All
    {
        get
        {
            lock (_lock)
            {
                return [.. _pools.Values.Select(e => e.Pool)];
            }
        }
    }

    /// <summary>Leases the pool of a variant for a claim of a project. The pool is made if there is none.</summary>
    /// <exception cref="PandoraException">All pools, or all of the project, are in use, or the server is shutting down.</exception>
    public PoolLease Lease(Template variant, string project)
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
            }

            if (_pools.Count(p => p.Key != variant.Variant && p.Value.Leases.Contains(project)) >= MostOfProject)
            {
                throw new PandoraException(
                    PandoraError.Overloaded,
                    $"project '{project}' starts microVMs of {MostOfProject} sizes other than their template's, and no more sizes may be "
                        + "started at once: try again later");
            }

            if (!_pools.TryGetValue(variant.Variant, out var entry))
            {
                if (_pools.Count >= Most)
                {
                    EndLeastRecentlyUsed();
                }

                entry = _pools[variant.Variant] = new Entry(make(variant));
                _sweeps ??= new PeriodicWork("The end of unused pools", Interval, _ => SweepAsync(), time, logger);
            }

            entry.Leases.Add(project);
            return new PoolLease(entry.Pool, variant.Size, isRequested: true, () => Release(entry, project));
        }
    }

    /// <summary>Closes all pools; no other is made.</summary>
    public async Task CloseAsync(Func<WarmPool, Task> close)
    {
        lock (_lock)
        {
            _isClosed = true;
        }

        if (_sweeps is { } sweeps)
        {
            await sweeps.DisposeAsync();
        }

        Task[] ends;
        lock (_lock)
        {
            ends = [.. _ends];
        }

        await Task.WhenAll([.. All.Select(close), .. ends]);
    }

    private void Release(Entry entry, string project)
    {
        lock (_lock)
        {
            entry.Leases.Remove(project);
            entry.LastUsed = time.GetTimestamp();
        }
    }

    // Under the lock, as the methods below.
    private void EndLeastRecentlyUsed()
    {
        var unused = _pools.Where(p => p.Value.IsUnused).ToList();
        if (unused.Count == 0)
        {
            throw new PandoraException(
                PandoraError.Overloaded,
                $"microVMs of {Most} sizes other than their template's are being started, and no more sizes may be: try again later");
        }

        End(unused.MinBy(p => p.Value.LastUsed).Key);
    }

    private Task SweepAsync()
    {
        lock (_lock)
        {
            var now = time.GetTimestamp();
            _pools.Where(p => p.Value.IsUnused && time.GetElapsedTime(p.Value.LastUsed, now) >= LongestUnused)
                .Select(p => p.Key).ToList().ForEach(End);
        }

        return Task.CompletedTask;
    }

    private void End(string variant)
    {
        _pools.Remove(variant, out var entry);
        var ending = Task.Run(() => entry!.Pool.DisposeAsync().AsTask());
        _ends.Add(ending);
        _ = ending.ContinueWith(
            t =>
            {
                lock (_lock)
                {
                    _ends.Remove(t);
                }
            }, TaskScheduler.Default);
    }

    private sealed class Entry(WarmPool pool)
    {
        public WarmPool Pool => pool;

        /// <summary>The project of each lease.</summary>
        public List<string> Leases { get; } = [];

        public long LastUsed { get; set; }

        public bool IsUnused => Leases.Count == 0 && pool.BootingCount == 0;
    }
}
