using System.Diagnostics.CodeAnalysis;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

/// <summary>How a sandbox ended.</summary>
/// <param name="Reason">Why.</param>
/// <param name="Explanation">The same for people, with what is known of the cause.</param>
/// <param name="At">When.</param>
public sealed record SandboxEnd(EndReason Reason, string Explanation, DateTimeOffset At)
{
    /// <summary>What an operator should know of it; null for nothing.</summary>
    public string? Hint { get; init; }
}

/// <summary>
/// A claimed microVM in a client's hands. Activity is a lease: while one is held the sandbox is busy. Its idle clock starts again at the
/// end of each that worked, and of no other: a client that tries again and again keeps no guest alive that answers nothing.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "The token of _ending is read after the sandbox ended; nothing to free")]
public sealed partial class Sandbox
{
    private readonly SandboxNode _node;
    private readonly TimeProvider _time;
    private readonly Lock _lock = new();
    private readonly CancellationTokenSource _ending = new();
    private readonly TimeSpan _ageBefore;
    private readonly long _heldSince;
    private readonly HashSet<Lease> _leases = [];
    private long _lastActivity;
    private bool _hasFailed;
    private int _running;
    private int _execCount;
    private SandboxEnd? _end;
    private TaskCompletionSource? _unused;

    internal Sandbox(MicroVm microVm, ClaimRecord claim, SandboxNode node)
    {
        MicroVm = microVm;
        Claim = claim;
        _node = node;
        var time = _time = node.Time;
        _lastActivity = _heldSince = time.GetTimestamp();
        // One that outlived its server is as old as it is by the wall clock, which may have been set back meanwhile.
        _ageBefore = time.GetUtcNow() - claim.CreatedAt is { Ticks: > 0 } age ? age : TimeSpan.Zero;
    }

    /// <summary>Its id.</summary>
    public string Id => MicroVm.Id;

    /// <summary>Name of the template it was started from.</summary>
    public string Template => MicroVm.Template;

    /// <summary>The microVM under it.</summary>
    internal MicroVm MicroVm { get; }

    /// <summary>What its client asked for.</summary>
    internal ClaimRecord Claim { get; }

    /// <summary>How it stands now.</summary>
    public SandboxStatus Status
    {
        get
        {
            // It may change at any moment, and state and reason are to agree.
            var degradation = Degradation;
            return new SandboxStatus(
                Id, Template, MicroVm.Slot.Index, MicroVm.Slot.Address.ToString(),
                degradation is null ? SandboxState.Running : SandboxState.Degraded, degradation, Age, Idle,
                SandboxStatus.LifetimeOf(Claim, _node.Options), ExecCount, new EgressPolicy(Claim.Egress), Claim.Metadata);
        }
    }

    /// <summary>Idleness after which it is ended.</summary>
    public TimeSpan IdleTimeout => TimeSpan.FromSeconds(Claim.IdleTimeout);

    /// <summary>Time since it was claimed.</summary>
    public TimeSpan Age => _ageBefore + _time.GetElapsedTime(_heldSince);

    /// <summary>Commands started in it by this server.</summary>
    public int ExecCount => Volatile.Read(ref _execCount);

    /// <summary>Whether it waits for room on the host's disk.</summary>
    public bool IsStalled => MicroVm.Machine.IsStalled;

    /// <summary>Whether its disk has lost data that it had written.</summary>
    public bool HasLostData { get; internal set; }

    /// <summary>Why it is not as it should be; null when it is.</summary>
    public string? Degradation
    {
        get
        {
            if (IsStalled)
            {
                return "it waits for room on the host's disk; nothing that it wrote is lost, and it goes on when there is room";
            }

            return HasLostData ? "its disk had I/O errors: what it wrote may be lost" : null;
        }
    }

    /// <summary>How it ended, or null.</summary>
    public SandboxEnd? End
    {
        get
        {
            lock (_lock)
            {
                return _end;
            }
        }
    }

    /// <summary>Whether the last that was tried in it did not work.</summary>
    public bool HasFailed
    {
        get
        {
            lock (_lock)
            {
                return _hasFailed;
            }
        }
    }

    /// <summary>Time since the last activity that worked; zero while it is busy.</summary>
    public TimeSpan Idle
    {
        get
        {
            lock (_lock)
            {
                return _leases.Count > 0 ? TimeSpan.Zero : _time.GetElapsedTime(_lastActivity);
            }
        }
    }

    /// <summary>Cancelled when the sandbox begins to end: whatever runs in it stops.</summary>
    internal CancellationToken Ending => _ending.Token;

    /// <summary>Begins an activity.</summary>
    /// <param name="isExec">Whether it is a command, which is counted and limited.</param>
    /// <returns>The lease; disposing it ends the activity.</returns>
    /// <exception cref="PandoraException">The sandbox has ended, too many commands run in it, or nothing has worked in it for its idle
    /// timeout.</exception>
    public Lease Use(bool isExec = false)
    {
        lock (_lock)
        {
            if (_end is not null)
            {
                throw Ended(Id, _end);
            }

            if (isExec && _leases.Count >= _node.Options.MaxExecs)
            {
                throw new PandoraException(
                    PandoraError.TooManyExecs,
                    $"{_leases.Count} commands run in this sandbox already, those counted in whose results are still being read, and "
                        + "more may not at once");
            }

            // What began before the clock ran over may really run, and where it does the guest lives.
            var isOver = _hasFailed && _time.GetElapsedTime(_lastActivity) >= IdleTimeout
                && !_leases.Any(l => l.BeganAt - _lastActivity < IdleTicks);
            if (isExec && isOver)
            {
                throw PandoraException.NotSent(
                    $"nothing has worked in this sandbox for {IdleTimeout.TotalSeconds:0.#} s, the last command neither: it is ended "
                        + "as soon as nothing is held in it");
            }

            var lease = new Lease(this, _time.GetTimestamp(), isExec);
            _leases.Add(lease);
            _running += isExec ? 1 : 0;
            _execCount += isExec ? 1 : 0;
            return lease;
        }
    }

    /// <summary>Starts its idle clock again.</summary>
    /// <exception cref="PandoraException">The sandbox has ended.</exception>
    public void KeepAlive()
    {
        using var lease = Use();
        lease.HasWorked = true;
    }

    /// <summary>Marks it as ending, once.</summary>
    /// <param name="end">How.</param>
    /// <param name="onlyIfIdle">Do nothing when it is busy, or was used within its idle timeout.</param>
    /// <returns>True for the one caller that must see it to its end.</returns>
    internal bool TryEnd(SandboxEnd end, bool onlyIfIdle = false)
    {
        lock (_lock)
        {
            if (_end is not null || (onlyIfIdle && (_leases.Count > 0 || _time.GetElapsedTime(_lastActivity) < IdleTimeout)))
            {
                return false;
            }

            _end = end;
        }

        _ = _ending.CancelAsync();
        return true;
    }

    /// <summary>What a client is told of a sandbox that has ended: gone when it died, not found when it was ended on purpose.</summary>
    internal static PandoraException Ended(string id, SandboxEnd end) => end.Reason == EndReason.Died
        ? new PandoraException(PandoraError.SandboxGone, $"sandbox '{id}' is gone: {end.Explanation}") { Hint = end.Hint }
        : new PandoraException(PandoraError.SandboxNotFound, $"sandbox '{id}' is no more: {end.Explanation}") { Hint = end.Hint };

    /// <summary>Completes when no command runs in it any more. Results that are being read are not waited for.</summary>
    internal Task WhenUnusedAsync()
    {
        lock (_lock)
        {
            _unused ??= _running == 0 ? null : new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            return _unused?.Task ?? Task.CompletedTask;
        }
    }

    private long IdleTicks => (long)(IdleTimeout.TotalSeconds * _time.TimestampFrequency);

    private void EndCommand()
    {
        _running--;
        if (_running == 0)
        {
            _unused?.TrySetResult();
            _unused = null;
        }
    }

    /// <summary>An activity in a sandbox.</summary>
    public sealed class Lease : IDisposable
    {
        private readonly Sandbox _sandbox;
        private bool _isRunning;

        internal Lease(Sandbox sandbox, long beganAt, bool isExec) => (_sandbox, BeganAt, _isRunning) = (sandbox, beganAt, isExec);

        internal long BeganAt { get; }

        /// <summary>Whether it came to something: its guest answered, or a client only wants it kept.</summary>
        internal bool HasWorked { get; set; }

        /// <summary>Its command is over; what came of it may be held on.</summary>
        internal void EndCommand()
        {
            lock (_sandbox._lock)
            {
                if (_isRunning)
                {
                    _isRunning = false;
                    _sandbox.EndCommand();
                }
            }
        }

        /// <inheritdoc/>
        public void Dispose()
        {
            lock (_sandbox._lock)
            {
                if (!_sandbox._leases.Remove(this))
                {
                    return;
                }

                EndCommand();
                _sandbox._hasFailed = !HasWorked;
                if (HasWorked)
                {
                    _sandbox._lastActivity = _sandbox._time.GetTimestamp();
                }
            }
        }
    }
}
