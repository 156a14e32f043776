using System.Collections.Concurrent;
using System.Diagnostics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Guests;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;
using Pandora.Engine.Pools;

namespace Pandora.Engine.Sandboxes;

/// <summary>All sandboxes of this node, and the one way to make, find, use and end them. Every door calls this and nothing else.</summary>
public sealed partial class SandboxRegistry(
    EngineOptions options, Func<string, WarmPool?> poolFor, Func<MicroVm, Egress, Task> setEgress,
    Func<CancellationToken, ValueTask> ensureClaimable, EngineMetrics metrics, TimeProvider time, ILoggerFactory loggers)
{
    private const int RememberedEnds = 1000;
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(5);
    private readonly SandboxJournal _journal = new(metrics, loggers.CreateLogger(SandboxJournal.Category));
    private readonly ILogger _logger = loggers.CreateLogger<SandboxRegistry>();
    private readonly ConcurrentDictionary<string, Sandbox> _sandboxes = new();
    private readonly ConcurrentDictionary<string, SandboxEnd> _ended = new();
    private readonly ConcurrentQueue<string> _endedOrder = new();
    private readonly IdempotencyKeys _keys = new();
    private readonly ConcurrentDictionary<Task, bool> _ending = new();
    private int _count;
    private readonly CancellationTokenSource _suspending = new();
    private volatile State _state;

    private enum State
    {
        Recovering, Open, Closed,
    }

    /// <summary>How many exist: claims that wait for a microVM are not among them.</summary>
    public int Count => Volatile.Read(ref _count);

    /// <summary>How many wait for room on the host's disk, or have lost data.</summary>
    public int DegradedCount => _sandboxes.Values.Count(s => s.Degradation is not null);

    /// <summary>All of them but the undecided, in no order.</summary>
    internal IEnumerable<Sandbox> All => _sandboxes.Values;

    /// <summary>All of them but the undecided, oldest first.</summary>
    /// <exception cref="PandoraException">The server has just started and does not know yet what there is.</exception>
    public IReadOnlyList<Sandbox> List()
    {
        MustBeRecovered();
        return [.. _sandboxes.Values.OrderByDescending(s => s.Age)];
    }

    /// <summary>Claims a warm microVM: validates, takes one from the pool, writes its record. Nothing else is on this path.</summary>
    /// <exception cref="PandoraException">The request is at fault, there are too many sandboxes, or no microVM became ready in time.</exception>
    public async Task<CreatedSandbox> CreateAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        using var span = EngineTracing.Source.StartActivity("sandbox.claim");
        try
        {
            RequestLimits.Check(request, options);
            MustBeRecovered();
            if (request.IdempotencyKey is { } asked && _undecided.Values.Any(r => r.Claim!.IdempotencyKey == asked))
            {
                throw IsUndecided("the sandbox of this Idempotency-Key");
            }

            var created = request.IdempotencyKey is { } key
                ? await _keys.GetOrClaimAsync(key, request.Hash(), () => ClaimAsync(request, cancellationToken), cancellationToken)
                : await ClaimAsync(request, cancellationToken);
            if (created.IsReplayed && created.Sandbox.End is { } end)
            {
                throw Sandbox.Ended(created.Sandbox.Id, end);
            }

            _journal.Created(span, created);
            return created;
        }
        catch (Exception e)
        {
            _journal.Failed(span, SandboxOperation.Create, null, e);
            throw;
        }
    }

    /// <summary>How many of each template there are.</summary>
    public IReadOnlyDictionary<string, int> CountByTemplate() => _sandboxes.Values.GroupBy(s => s.Template).ToDictionary(g => g.Key, g => g.Count());

    private async Task<CreatedSandbox> ClaimAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        var start = Stopwatch.GetTimestamp();
        var name = request.Template ?? Templates.TemplateStore.DefaultName;
        var pool = poolFor(name)
            ?? throw PandoraException.Invalid(
            "template", $"there is no template '{name}'", hint: "'./pandora template ls' lists the templates");
        MustBeServing();
        await ensureClaimable(cancellationToken);
        if (Count >= options.MaxSandboxes)
        {
            // Told at once, and not after a wait for what it cannot have.
            throw AtLimit();
        }

        Rental? rental = null;
        var (isCounted, isRegistered) = (false, false);
        try
        {
            rental = await pool.RentAsync(TimeSpan.FromSeconds(options.AcquireTimeout), cancellationToken);
            if (!rental.IsWarm)
            {
                // Much may have changed while it waited.
                await ensureClaimable(cancellationToken);
            }

            // Not before it waited: those that wait have a limit of their own, the pool's, and are no sandboxes yet.
            isCounted = TryCount();
            if (!isCounted)
            {
                rental = pool.Return(rental.MicroVm) ? null : rental;
                throw AtLimit();
            }

            var microVm = rental.MicroVm;
            var claim = new ClaimRecord(request.IdleTimeout ?? options.IdleTimeout, request.Egress ?? options.DefaultEgress,
                request.Metadata ?? new Dictionary<string, string>(), time.GetUtcNow(), request.IdempotencyKey)
            {
                RequestHash = request.IdempotencyKey is null ? null : request.Hash(),
            };
            microVm.RecordClaim(claim);
            if (claim.Egress != options.DefaultEgress)
            {
                await setEgress(microVm, claim.Egress);
            }

            var sandbox = Register(microVm, claim);
            isRegistered = true;
            if (_state == State.Closed)
            {
                await EndAsync(sandbox, new SandboxEnd(EndReason.Shutdown, "the server shut down", time.GetUtcNow()));
                throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
            }

            return new CreatedSandbox(sandbox, rental.IsWarm, Stopwatch.GetElapsedTime(start));
        }
        catch (Exception e) when (!isRegistered)
        {
            // Nothing half made: what was taken is ended, and the count is what it was.
            if (isCounted)
            {
                Interlocked.Decrement(ref _count);
            }

            _ = rental?.MicroVm.Teardown.CompleteAsync();
            if (e is IOException)
            {
                throw new PandoraException(PandoraError.HostFull, $"the claim could not be written down ({e.Message})", innerException: e)
                {
                    Hint = "see that the run directory (PANDORA_RUN_DIR) is there and has room",
                };
            }

            throw;
        }
    }

    // In one step, so that claims that are served at the same moment cannot pass the limit together.
    private bool TryCount()
    {
        for (var count = Count; count < options.MaxSandboxes;)
        {
            var seen = Interlocked.CompareExchange(ref _count, count + 1, count);
            if (seen == count)
            {
                return true;
            }

            count = seen;
        }

        return false;
    }

    private PandoraException AtLimit() =>
        new(PandoraError.SandboxLimit,
            $"{Count} sandboxes exist, and no more than {options.MaxSandboxes} may: delete one, or try again when one has ended")
        {
            Hint = "PANDORA_MAX_SANDBOXES is how many may exist",
        };

    private Sandbox Register(MicroVm microVm, ClaimRecord claim)
    {
        var sandbox = new Sandbox(microVm, claim, options.MaxExecs, time);
        _sandboxes[sandbox.Id] = sandbox;
        _ = EngineTracing.Detach(() => WatchAsync(sandbox));
        return sandbox;
    }

    private void MustBeServing()
    {
        if (_state == State.Closed)
        {
            throw new PandoraException(PandoraError.ShuttingDown, "the server is shutting down");
        }
    }

    /// <summary>Finds a sandbox.</summary>
    /// <exception cref="PandoraException">There is none with that id, or it has ended; the message says how.</exception>
    public Sandbox Get(string id)
    {
        MustBeRecovered();
        // First: once it is decided, it stands among the others.
        var isUndecided = _undecided.ContainsKey(id);
        return _sandboxes.TryGetValue(id, out var sandbox) ? sandbox
            : _ended.TryGetValue(id, out var end) ? throw Sandbox.Ended(id, end)
            : isUndecided ? throw IsUndecided($"sandbox '{id}'")
            : throw new PandoraException(PandoraError.SandboxNotFound, $"there is no sandbox '{(id.Length > 64 ? id[..64] + "…" : id)}'");
    }

    /// <summary>Runs a command in a sandbox. It is activity from its start until its result is disposed of.</summary>
    /// <exception cref="PandoraException">The request is at fault, or the sandbox ended, before or meanwhile.</exception>
    public async Task<Execution> ExecAsync(string id, GuestCommand command, CancellationToken cancellationToken)
    {
        using var span = EngineTracing.Source.StartActivity("sandbox.exec");
        try
        {
            var sandbox = Get(id);
            RequestLimits.Check(command);
            MustBeServing();
            if (sandbox.IsStalled)
            {
                throw new PandoraException(PandoraError.HostFull, $"sandbox '{id}' {sandbox.Degradation}: nothing was run");
            }

            var lease = sandbox.Use(isExec: true);
            var start = Stopwatch.GetTimestamp();
            try
            {
                var result = await RunAsync(sandbox, command, lease, cancellationToken);
                var elapsed = Stopwatch.GetElapsedTime(start);
                lease.EndCommand();
                _journal.Executed(span, sandbox, result, elapsed);
                return new Execution(result, elapsed, lease, () => metrics.Failed(SandboxOperation.Exec, EngineMetrics.NotDelivered))
                {
                    HasLostData = sandbox.HasLostData,
                };
            }
            catch
            {
                lease.Dispose();
                metrics.Executed(sandbox.Template, ExecStatus.Error, Stopwatch.GetElapsedTime(start));
                throw;
            }
        }
        catch (Exception e)
        {
            _journal.Failed(span, SandboxOperation.Exec, id, e);
            throw;
        }
    }

    private async Task<GuestResult> RunAsync(
        Sandbox sandbox, GuestCommand command, Sandbox.Lease lease, CancellationToken cancellationToken)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, sandbox.Ending, _suspending.Token);
        try
        {
            // When the guest is gone or going, nothing of it is waited for.
            var result = await sandbox.MicroVm.Guest.ExecAsync(command, linked.Token).WaitAsync(sandbox.Ending);
            lease.HasWorked = result.Stopped is null or { HasAnswered: true };
            return result;
        }
        catch (Exception e) when (sandbox.End is { } end && e is not PandoraException { Error: PandoraError.InvalidRequest })
        {
            throw Sandbox.Ended(sandbox.Id, end);
        }
        catch (OperationCanceledException e)
        {
            var stop = (e as CommandStoppedException)?.Stop ?? CommandStop.NotStarted;
            lease.HasWorked = stop.HasAnswered;
            cancellationToken.ThrowIfCancellationRequested();
            throw new PandoraException(
                PandoraError.Interrupted,
                $"the server stopped before the command ended; {stop.Words}; it is not repeated, and the sandbox is left to the next server",
                innerException: e) { Command = stop.Outcome };
        }
        catch (PandoraException e) when (e.Error == PandoraError.InvalidRequest)
        {
            // Its guest said so.
            lease.HasWorked = true;
            throw;
        }
        catch (PandoraException e) when (e.Error == PandoraError.GuestUnreachable)
        {
            lease.HasWorked = e.Command is CommandOutcome.Killed or CommandOutcome.Unknown;
            // The VMM's death and the connection's may be seen in either order.
            await Task.Delay(TimeSpan.FromMilliseconds(200), time, sandbox.Ending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            throw sandbox.End is { } end ? Sandbox.Ended(sandbox.Id, end) : e;
        }
    }
}
