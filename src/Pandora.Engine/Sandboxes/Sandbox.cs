using System.Diagnostics.CodeAnalysis;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

/// <summary>How a sandbox ended.</summary>
/// <param name="Reason">Why.</param>
/// <param name="Explanation">The reason for people, with the known cause.</param>
/// <param name="At">When.</param>
public sealed record SandboxEnd(EndReason Reason, string Explanation, DateTimeOffset At)
{
    /// <summary>What an operator should know about the end, or null.</summary>
    public string? Hint { get; init; }

    /// <summary>Whether <see cref="Explanation"/> may repeat words that the guest chose.</summary>
    public bool HasGuestWords { get; init; }
}

/// <summary>
/// A claimed microVM in a client's hands. An activity holds a lease: while one is held, the sandbox is busy. The idle clock starts again
/// only at the end of an activity that worked, so that a client that retries cannot keep a guest alive that does not answer.
/// </summary>
[SuppressMessage("Design", "CA1001", Justification = "_ending and _changeTurn are used after the sandbox ended; nothing to free")]
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
    private int _running, _uncounted;
    private int _execCount;
    private SandboxEnd? _end;
    private TaskCompletionSource? _unused;
    private volatile ClaimRecord _claim;

    internal Sandbox(MicroVm microVm, ClaimRecord claim, SandboxNode node)
    {
        MicroVm = microVm;
        _claim = claim;
        _node = node;
        var time = _time = node.Time;
        _lastActivity = _heldSince = time.GetTimestamp();
        // The age of a sandbox that outlived its server comes from the wall clock, which may have been set back since.
        _ageBefore = time.GetUtcNow() - claim.CreatedAt is { Ticks: > 0 } age ? age : TimeSpan.Zero;
    }

    /// <summary>The id of the sandbox.</summary>
    public string Id => MicroVm.Id;

    /// <summary>Name of the template from which the microVM was started.</summary>
    public string Template => MicroVm.Template;

    /// <summary>Name of the project that it belongs to.</summary>
    public string Project => Claim.ProjectName;

    /// <summary>The microVM of this sandbox.</summary>
    internal MicroVm MicroVm { get; }

    /// <summary>The client's claim.</summary>
    internal ClaimRecord Claim => _claim;

    /// <summary>The state of the sandbox now.</summary>
    public SandboxStatus Status
    {
        get
        {
            // Read once: it may change at any moment, and state and reason must agree.
            var (degradation, claim) = (Degradation, Claim);
            return new SandboxStatus(
                Id, Template, MicroVm.Slot.Index, MicroVm.Slot.Address.ToString(),
                degradation is null ? SandboxState.Running : SandboxState.Degraded, degradation, Age, Idle,
                SandboxStatus.LifetimeOf(claim, _node), ExecCount, claim.EgressPolicy, claim.Metadata, Project,
                MicroVm.Size)
            {
                CreatedAt = claim.CreatedAt,
            };
        }
    }

    /// <summary>Idle time after which the sandbox is ended.</summary>
    public TimeSpan IdleTimeout => TimeSpan.FromSeconds(Claim.IdleTimeout);

    /// <summary>How long the sandbox may live however busy it is; null for ever.</summary>
    internal TimeSpan? LongestLife => _node.LongestLifeOf(Project);

    /// <summary>The size that counts against the host and the project.</summary>
    internal MicroVmSize CountedSize => MicroVm.Size ?? MicroVmSize.OfUnknown;

    /// <summary>Time since the claim.</summary>
    public TimeSpan Age => _ageBefore + _time.GetElapsedTime(_heldSince);

    /// <summary>Number of commands that this server started in the sandbox.</summary>
    public int ExecCount => Volatile.Read(ref _execCount);

    /// <summary>Whether the sandbox waits for room on the host's disk.</summary>
    public bool IsStalled => MicroVm.Machine.IsStalled;

    /// <summary>Whether the sandbox's disk has lost data that the guest had written.</summary>
    public bool HasLostData { get; internal set; }

    /// <summary>Why the sandbox is degraded; null when it is not.</summary>
    public string? Degradation
    {
        get
        {
            if (IsStalled)
            {
                return "it waits for room on the host's disk; no data is lost, and it continues when there is room";
            }

            return HasLostData ? "its disk had I/O errors: data that it wrote may be lost" : null;
        }
    }

    /// <summary>How the sandbox ended; null while it exists.</summary>
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

    /// <summary>Whether the last activity in the sandbox failed.</summary>
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

    /// <summary>Time since the last activity that worked; zero while the sandbox is busy.</summary>
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

    /// <summary>Cancelled when the sandbox begins to end: its commands stop.</summary>
    public CancellationToken Ending => _ending.Token;

    /// <summary>Begins an activity in the sandbox.</summary>
    /// <param name="isExec">Whether the activity is a command, which is counted and limited.</param>
    /// <param name="isUncounted">Whether the activity does not count as a command: a request for files, or a client that waits.</param>
    /// <returns>The lease; disposing it ends the activity.</returns>
    /// <exception cref="PandoraException">The sandbox has ended, too many commands run in it, or no activity in it has worked for its idle
    /// timeout.</exception>
    public Lease Use(bool isExec = false, bool isUncounted = false)
    {
        lock (_lock)
        {
            if (_end is not null)
            {
                throw Ended(Id, _end);
            }

            if (isExec && _leases.Count - _uncounted >= _node.Options.MaxExecs)
            {
                throw new PandoraException(
                    PandoraError.TooManyExecs,
                    $"{_leases.Count - _uncounted} commands run in this sandbox, including those whose results are still being read, and "
                        + "no more may run at once");
            }

            // An activity that began before the idle timeout passed may still work; then the guest lives.
            var isOver = _hasFailed && _time.GetElapsedTime(_lastActivity) >= IdleTimeout
                && !_leases.Any(l => l.BeganAt - _lastActivity < IdleTicks);
            if (isExec && isOver)
            {
                throw PandoraException.NotSent(
                    $"nothing has worked in this sandbox for {IdleTimeout.TotalSeconds:0.#} s, nor did the last command: the server ends "
                        + "it as soon as no activity holds it");
            }

            var lease = new Lease(this, _time.GetTimestamp(), isExec, isUncounted);
            _leases.Add(lease);
            _uncounted += isUncounted ? 1 : 0;
            _running += isExec ? 1 : 0;
            _execCount += isExec ? 1 : 0;
            return lease;
        }
    }

    /// <summary>Starts the sandbox's idle clock again.</summary>
    /// <exception cref="PandoraException">The sandbox has ended.</exception>
    public void KeepAlive()
    {
        var line = Audit(AuditOperation.Keepalive);
        try
        {
            using var lease = Use();
            lease.HasWorked = true;
        }
        catch (Exception e)
        {
            RecordFailed(line, e);
            throw;
        }

        RecordDone(line);
    }

    /// <summary>Marks the sandbox as ending, once.</summary>
    /// <param name="end">How the sandbox ends.</param>
    /// <param name="onlyIfIdle">Do nothing when the sandbox is busy, or was used within its idle timeout.</param>
    /// <returns>True for the one caller that must then end the sandbox.</returns>
    internal bool TryEnd(SandboxEnd end, bool onlyIfIdle = false)
    {
        lock (_lock)
        {
            if (_end is not null || (onlyIfIdle && (_leases.Count > 0 || _time.GetElapsedTime(_lastActivity) < IdleTimeout)))
            {
                return false;
            }

            _end = end;
            _endTimer?.Dispose();
        }

        _ = _ending.CancelAsync();
        return true;
    }

    /// <summary>
    /// The error for a client that asks for a sandbox that has ended: gone when it died, not found when it was ended on purpose.
    /// </summary>
    internal static PandoraException Ended(string id, SandboxEnd end) => end.Reason == EndReason.Died
        ? new PandoraException(PandoraError.SandboxGone, $"sandbox '{id}' is gone: {end.Explanation}")
        {
            Hint = end.Hint,
            HasGuestWords = end.HasGuestWords,
        }
        : new PandoraException(PandoraError.SandboxNotFound, $"sandbox '{id}' has ended: {end.Explanation}") { Hint = end.Hint };

    /// <summary>
    /// Completes when no command runs in the sandbox that ends with its server. Results that are still being read, and commands whose
    /// output is streamed, do not delay it.
    /// </summary>
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
        private readonly bool _isUncounted;
        private bool _isRunning;

        internal Lease(Sandbox sandbox, long beganAt, bool isExec, bool isUncounted) =>
            (_sandbox, BeganAt, _isRunning, _isUncounted) = (sandbox, beganAt, isExec, isUncounted);

        internal long BeganAt { get; }

        /// <summary>Whether the activity worked: the guest answered, or the client only asked to keep the sandbox alive.</summary>
        internal bool HasWorked { get; set; }

        /// <summary>Reports that a stopping server need not wait for the command: it has ended, or lives on without a server.</summary>
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

                _sandbox._uncounted -= _isUncounted ? 1 : 0;
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
