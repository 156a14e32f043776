using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Pools;

/// <summary>A microVM that the pool handed out.</summary>
/// <param name="MicroVm">The microVM, which was alive a moment ago.</param>
/// <param name="IsWarm">Whether it was warm, so that the client did not wait.</param>
public sealed record ClaimedMicroVm(MicroVm MicroVm, bool IsWarm);

/// <summary>
/// The warm microVMs of one template. A claim takes the oldest one, or waits. A task refills the pool: it boots as many microVMs as are
/// missing, and one for each waiting claim. A warm microVM that dies is removed at once, and each is checked before it is handed out.
/// </summary>
/// <remarks>
/// No project can take the pool from the others:
/// <list type="number">
/// <item>The projects with waiting claims are served in turn. A claim of a project without one takes a warm microVM at once.</item>
/// <item>A pool of two or more keeps its last warm microVM from waiting claims while another project, which claimed within the last ten
/// minutes, has no waiting claim. When that project takes the last one, the next microVM replaces it before a waiting claim is served.
/// When all of these projects wait, nothing is kept back.</item>
/// <item>When no microVM has become available for ten seconds, because boots fail or must wait, a waiting claim gets the last one
/// too.</item>
/// <item>When too many claims wait, the newest of the project with the most is refused.</item>
/// </list>
/// </remarks>
public sealed partial class WarmPool : IAsyncDisposable
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1), LongestPause = TimeSpan.FromSeconds(30);
    private readonly Channel<bool> _wake = Channel.CreateBounded<bool>(
        new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly CancellationTokenSource _stopping = new();
    private readonly Lock _lock = new();
    private readonly LinkedList<MicroVm> _warm = [];
    private readonly HashSet<Task> _boots = [];
    private readonly HashSet<Task> _ends = [];
    private readonly string _template;
    private readonly Func<CancellationToken, Task<MicroVm>> _boot;
    private readonly Func<MicroVm, Task> _end;
    private readonly Func<MicroVm, CancellationToken, Task>? _maintain;
    private readonly Task _maintaining;
    private readonly Func<bool> _hasRoom;
    private readonly Func<bool> _isShort;
    private readonly int _size;
    private readonly int _maxBoots;
    private readonly int _maxWaiting;
    private readonly TimeProvider _time;
    private readonly EngineMetrics _metrics;
    private readonly ILogger _logger;
    private readonly Task _filling;
    private bool _isClosed;
    private int _expected;
    private int _failures;
    private string? _lastFailure;
    private long _pausedUntil;

    /// <param name="template">Name of the template, for metrics and messages.</param>
    /// <param name="size">How many to keep warm.</param>
    /// <param name="maxBoots">How many may boot at once.</param>
    /// <param name="boot">Starts one microVM.</param>
    /// <param name="end">Ends a microVM that is not needed or has died.</param>
    /// <param name="metrics">Counts the failures.</param>
    /// <param name="time">The clock of pauses after failures and of waits.</param>
    /// <param name="logger">Log of the failures.</param>
    /// <param name="maxWaiting">Most clients that may wait at once.</param>
    /// <param name="expected">How many warm microVMs of an earlier server may still be adopted with <see cref="Adopt"/>. The pool boots
    /// none in their place.</param>
    /// <param name="maintain">Maintains one warm microVM. The pool calls it for each at an interval, and at once when the host's clock was
    /// set; a microVM for which it throws is ended. Null for no maintenance.</param>
    /// <param name="hasRoom">Whether the host has room for a microVM that no claim waits for. Null: always.</param>
    /// <param name="isShort">Whether the host has no room for a microVM that a claim waits for. Null: never.</param>
    public WarmPool(
        string template,
        int size,
        int maxBoots,
        Func<CancellationToken, Task<MicroVm>> boot,
        Func<MicroVm, Task> end,
        EngineMetrics metrics,
        TimeProvider time,
        ILogger logger,
        int maxWaiting = int.MaxValue,
        int expected = 0,
        Func<MicroVm, CancellationToken, Task>? maintain = null,
        Func<bool>? hasRoom = null,
        Func<bool>? isShort = null)
    {
        _hasRoom = hasRoom ?? (static () => true);
        _isShort = isShort ?? (static () => false);
        _template = template;
        _size = size;
        _maxBoots = maxBoots;
        _boot = boot;
        _end = end;
        _metrics = metrics;
        _time = time;
        _logger = logger;
        _maxWaiting = maxWaiting;
        _maintain = maintain;
        _expected = expected;
        _waiting = new WaitingClaims(time);
        // The timer belongs to no request, not even to the first one, for which the pool was made.
        using (ExecutionContext.SuppressFlow())
        {
            _reserveEnds = time.CreateTimer(_ => EndReserve(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
        }

        _filling = EngineTracing.Detach(FillAsync);
        _maintaining = _maintain is null ? Task.CompletedTask : EngineTracing.Detach(MaintainAsync);
        Wake();
    }

    /// <summary>Name of the template.</summary>
    public string Template => _template;

    /// <summary>The number of microVMs to keep warm.</summary>
    public int Size => _size;

    /// <summary>Size of the microVM that it started last, at first its template's; null when the template was removed.</summary>
    public MicroVmSize? MicroVmSize { get; internal set; }

    /// <summary>The number of warm microVMs that are alive.</summary>
    public int WarmCount
    {
        get
        {
            lock (_lock)
            {
                return _warm.Count;
            }
        }
    }

    /// <summary>The number of clients that wait.</summary>
    public int WaitingCount
    {
        get
        {
            lock (_lock)
            {
                return _waiting.Count;
            }
        }
    }

    /// <summary>The project whose claim is served next; null when no claim waits.</summary>
    internal string? NextProject
    {
        get
        {
            lock (_lock)
            {
                return _waiting.NextProject;
            }
        }
    }

    /// <summary>The number of microVMs that boot.</summary>
    public int BootingCount
    {
        get
        {
            lock (_lock)
            {
                return _boots.Count;
            }
        }
    }

    /// <summary>
    /// Takes back a microVM that was handed out and not used, for the next claim. If it has died since, the pool ends it.
    /// </summary>
    /// <returns>False when the pool is closed; then the caller must end the microVM.</returns>
    internal bool Return(MicroVm microVm)
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                return false;
            }

            // WatchAsync still watches it, but ends only warm microVMs: one that died while it was handed out is ended here.
            if (microVm.IsAlive && !microVm.Machine.Exited.IsCompleted)
            {
                Offer(microVm);
            }
            else
            {
                End(microVm);
            }
        }

        Wake();
        return true;
    }

    /// <summary>Adds a warm microVM of an earlier server.</summary>
    public void Adopt(MicroVm microVm)
    {
        lock (_lock)
        {
            _expected--;
            Add(microVm);
        }

        Wake();
    }

    /// <summary>Reports that one expected microVM will not be adopted.</summary>
    public void ExpectOneLess()
    {
        lock (_lock)
        {
            _expected--;
        }

        Wake();
    }

    /// <summary>Stops booting, and detaches from the warm microVMs, which run on for the next server.</summary>
    public Task DetachAsync() => CloseAsync(keepWarm: true);

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => new(CloseAsync(keepWarm: false));

    private async Task CloseAsync(bool keepWarm)
    {
        lock (_lock)
        {
            if (_isClosed)
            {
                return;
            }

            _isClosed = true;
            while (_waiting.Count > 0)
            {
                _waiting.TakeNext().SetException(IsClosing());
            }
        }

        await _reserveEnds.DisposeAsync();
        await _stopping.CancelAsync();
        await _filling;
        await _maintaining;
        Task[] boots;
        lock (_lock)
        {
            boots = [.. _boots];
        }

        await Task.WhenAll(boots);
        Task[] ends;
        lock (_lock)
        {
            foreach (var microVm in keepWarm ? [] : _warm)
            {
                End(microVm);
            }

            _warm.Clear();
            ends = [.. _ends];
        }

        await Task.WhenAll(ends);
        _stopping.Dispose();
    }

    // Under the lock, so that CloseAsync awaits every end that has begun.
    private Task End(MicroVm microVm)
    {
        var ending = Task.Run(() => _end(microVm));
        _ends.Add(ending);
        _ = ending.ContinueWith(
            t =>
            {
                lock (_lock)
                {
                    _ends.Remove(t);
                }
            }, TaskScheduler.Default);
        return ending;
    }

    private void Add(MicroVm microVm)
    {
        lock (_lock)
        {
            Offer(microVm);
        }

        _ = WatchAsync(microVm);
    }

    private async Task WatchAsync(MicroVm microVm)
    {
        var reason = await microVm.Machine.Exited;
        lock (_lock)
        {
            if (!_warm.Remove(microVm))
            {
                return;
            }

            End(microVm);
        }

        LogDiedWarm(microVm.Id, reason);
        Wake();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "microVM {SandboxId} died while it was warm: {Reason}")]
    private partial void LogDiedWarm(string sandboxId, string reason);
}
