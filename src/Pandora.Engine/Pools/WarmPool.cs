using System.Threading.Channels;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Pools;

/// <summary>A microVM handed out by the pool.</summary>
/// <param name="MicroVm">The microVM, alive a moment ago.</param>
/// <param name="IsWarm">Whether it was there without waiting.</param>
public sealed record ClaimedMicroVm(MicroVm MicroVm, bool IsWarm);

/// <summary>
/// The warm microVMs of one template. Clients read a channel, which serves waiters in order; one filler keeps as many booting as are
/// missing, waiters counted in. A microVM that dies while it waits is taken out of the count at once and skipped when its turn comes.
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

    /// <param name="template">Name of the template, for figures and messages.</param>
    /// <param name="size">How many to keep warm.</param>
    /// <param name="maxBoots">How many may boot at once.</param>
    /// <param name="boot">Boots one.</param>
    /// <param name="end">Ends one that is not wanted or has died.</param>
    /// <param name="metrics">Where failures are counted.</param>
    /// <param name="time">For pauses after failures and the limits of waits.</param>
    /// <param name="logger">Where failures are told.</param>
    /// <param name="maxWaiting">Most clients that may wait at once.</param>
    /// <param name="expected">How many warm ones of an earlier server may still come, by <see cref="Adopt"/>: no others are booted in their
    /// place.</param>
    /// <param name="tend">Done to each warm one from time to time, and at once when the host's clock was set; one it fails for is ended.
    /// Null for nothing.</param>
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
        Func<MicroVm, CancellationToken, Task>? tend = null)
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
        _maintain = tend;
        _expected = expected;
        _filling = EngineTracing.Detach(FillAsync);
        _maintaining = _maintain is null ? Task.CompletedTask : EngineTracing.Detach(MaintainAsync);
        Wake();
    }

    /// <summary>Name of the template.</summary>
    public string Template => _template;

    /// <summary>How many are kept warm.</summary>
    public int Size => _size;

    /// <summary>How many are warm and alive now.</summary>
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

    /// <summary>How many clients wait now.</summary>
    public int WaitingCount => Volatile.Read(ref _waiting);

    /// <summary>How many boot now.</summary>
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

    /// <summary>Takes a living microVM; waits in order when there is none.</summary>
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
                PandoraError.Overloaded, $"{_maxWaiting} clients wait for a microVM already, and more may not: try again later")
            {
                Hint = "PANDORA_MAX_WAITING is how many may wait",
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
            // Why boots fail is a matter of the host's, and told in the words of its programs.
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

    /// <summary>Takes back a microVM that was handed out and not used, for the next in line. One that has died meanwhile is
    /// ended.</summary>
    /// <returns>False when the pool is closed, and the caller is to end it.</returns>
    internal bool Return(MicroVm microVm)
    {
        lock (_lock)
        {
            if (_stopping.IsCancellationRequested)
            {
                return false;
            }

            // It has been watched since it came. If its end came while it was handed out, nobody else ends it.
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

    /// <summary>Takes in a warm microVM of an earlier server.</summary>
    public void Adopt(MicroVm microVm)
    {
        lock (_lock)
        {
            _expected--;
            Add(microVm);
        }

        Wake();
    }

    /// <summary>One of those that were expected does not come.</summary>
    public void ExpectOneLess()
    {
        lock (_lock)
        {
            _expected--;
        }

        Wake();
    }

    /// <summary>Boots no more and leaves those that are warm as they are, for the next server.</summary>
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

    // A waiter that is served counts no more from the same moment on as its microVM does, or one more would be booted for it.
    private bool Take(MicroVm microVm, bool isWaiter)
    {
        bool isGood;
        lock (_lock)
        {
            var isOurs = _warm.Remove(microVm);
            isGood = isOurs && microVm.IsAlive;
            Release(microVm);
            if (isGood && isWaiter)
            {
                Interlocked.Decrement(ref _waiting);
            }

            if (isOurs && !isGood)
            {
                End(microVm);
            }
        }

        Wake();
        return isGood;
    }

    // Under the lock, so that closing knows of every end that is under way.
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

    // Under the lock. When the pool is closed meanwhile, its own clean-up finds it among the warm ones.
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
