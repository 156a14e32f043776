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
/// The warm microVMs of one template. Claims read from a channel, which serves waiting clients in order. A task refills the pool: it boots
/// as many microVMs as are missing, and one for each waiting client. A warm microVM that dies is removed from the count at once, and
/// skipped when a claim reads it from the channel.
/// </summary>
public sealed partial class WarmPool : IAsyncDisposable
{
    private static readonly TimeSpan FirstPause = TimeSpan.FromSeconds(1), LongestPause = TimeSpan.FromSeconds(30);
    private readonly Channel<MicroVm> _ready = Channel.CreateUnbounded<MicroVm>();
    private readonly Channel<bool> _wake = Channel.CreateBounded<bool>(
        new BoundedChannelOptions(1) { FullMode = BoundedChannelFullMode.DropWrite });
    private readonly CancellationTokenSource _stopping = new();
    private readonly Lock _lock = new();
    private readonly HashSet<MicroVm> _warm = [];
    private readonly HashSet<Task> _boots = [];
    private readonly HashSet<Task> _ends = [];
    private readonly string _template;
    private readonly Func<CancellationToken, Task<MicroVm>> _boot;
    private readonly Func<MicroVm, Task> _end;
    private readonly Func<MicroVm, CancellationToken, Task>? _maintain;
    private readonly Task _maintaining;
    private readonly int _size;
    private readonly int _maxBoots;
    private readonly int _maxWaiting;
    private readonly TimeProvider _time;
    private readonly EngineMetrics _metrics;
    private readonly ILogger _logger;
    private readonly Task _filling;
    private int _waiting;
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
        Func<MicroVm, CancellationToken, Task>? maintain = null)
    {
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
    public int WaitingCount => Volatile.Read(ref _waiting);

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

    /// <summary>Claims a living microVM; waits in order when there is none.</summary>
    /// <param name="timeout">Longest wait.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">None became ready in time, or the pool is closing.</exception>
    public async ValueTask<ClaimedMicroVm> ClaimAsync(TimeSpan timeout, CancellationToken cancellationToken)
    {
        while (_ready.Reader.TryRead(out var warm))
        {
            if (Take(warm, isWaiter: false))
            {
                return new ClaimedMicroVm(warm, IsWarm: true);
            }
        }

        using var limit = new CancellationTokenSource(timeout, _time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, cancellationToken);
        if (Interlocked.Increment(ref _waiting) > _maxWaiting)
        {
            Interlocked.Decrement(ref _waiting);
            throw new PandoraException(
                PandoraError.Overloaded, $"{_maxWaiting} clients wait for a microVM, and no more may wait: try again later")
            {
                Hint = "PANDORA_MAX_WAITING sets how many may wait",
            };
        }

        Wake();
        var isServed = false;
        try
        {
            while (true)
            {
                var microVm = await _ready.Reader.ReadAsync(linked.Token);
                if (Take(microVm, isWaiter: true))
                {
                    isServed = true;
                    return new ClaimedMicroVm(microVm, IsWarm: false);
                }
            }
        }
        catch (OperationCanceledException) when (!cancellationToken.IsCancellationRequested)
        {
            // The cause of a failed boot is about the host, in the words of its programs: it is for the operator, not for the client.
            throw new PandoraException(PandoraError.PoolEmpty, $"no microVM became ready within {timeout.TotalSeconds:0} s")
            {
                Hint = _lastFailure is null ? null : $"the last boot failed: {_lastFailure}",
            };
        }
        catch (ChannelClosedException)
        {
            throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
        }
        finally
        {
            if (!isServed)
            {
                Interlocked.Decrement(ref _waiting);
                Wake();
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
            if (_stopping.IsCancellationRequested)
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
        if (!_ready.Writer.TryComplete())
        {
            return;
        }

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

    // Removes the waiter and its microVM from the counts at the same moment: else one microVM too many would be booted.
    private bool Take(MicroVm microVm, bool isWaiter)
    {
        bool isUsable;
        lock (_lock)
        {
            var wasWarm = _warm.Remove(microVm);
            isUsable = wasWarm && microVm.IsAlive;
            StopMaintenance(microVm);
            if (isUsable && isWaiter)
            {
                Interlocked.Decrement(ref _waiting);
            }

            if (wasWarm && !isUsable)
            {
                End(microVm);
            }
        }

        Wake();
        return isUsable;
    }

    // Under the lock, so that CloseAsync awaits every end that has begun.
    private void End(MicroVm microVm)
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
    }

    private void Wake() => _wake.Writer.TryWrite(true);

    private void Add(MicroVm microVm)
    {
        lock (_lock)
        {
            Offer(microVm);
        }

        _ = WatchAsync(microVm);
    }

    // Under the lock. If the pool closes meanwhile, CloseAsync finds the microVM among the warm ones and ends it.
    private void Offer(MicroVm microVm)
    {
        _warm.Add(microVm);
        _ready.Writer.TryWrite(microVm);
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
