namespace Pandora.Engine.Sandboxes;

// The time at which a sandbox ends even while it is busy, and what a front end keeps with it.
public sealed partial class Sandbox
{
    private Action? _endDue;
    private ITimer? _endTimer;
    private long _endTicks;

    /// <summary>What a front end keeps with the sandbox.</summary>
    public IReadOnlyDictionary<string, string> Annotations => Claim.Annotations ?? new Dictionary<string, string>();

    /// <summary>Sets the time at which the sandbox ends even while it is busy. It is no activity.</summary>
    /// <param name="fromNow">0 to 24 h. The longest life of the server or the project may end the sandbox before.</param>
    /// <param name="onlyExtend">Whether an end that is later, or none, stays.</param>
    /// <param name="cancellationToken">Ends the wait for other changes.</param>
    /// <exception cref="PandoraException">The time is out of bounds, the sandbox has ended, or the record could not be written: then the
    /// end stays as it was.</exception>
    public Task SetEndAsync(TimeSpan fromNow, bool onlyExtend, CancellationToken cancellationToken) =>
        ChangeAsync(Audit(AuditOperation.Keepalive), SandboxOperation.Process, () =>
        {
            RequestLimits.CheckEnd(fromNow);
            return onlyExtend && !(TimeLeft < fromNow) ? Claim : Claim with { EndsAt = _time.GetUtcNow() + fromNow };
        }, cancellationToken);

    /// <summary>Sets what a front end keeps with the sandbox under a name; null for nothing. The audit has no line of it.</summary>
    /// <param name="name">The name.</param>
    /// <param name="value">What to keep; null for nothing.</param>
    /// <param name="cancellationToken">Ends the wait for other changes.</param>
    /// <param name="onlyIfMissing">Whether what is kept already stays.</param>
    /// <exception cref="PandoraException">It is too long, the sandbox has ended, or the record could not be written.</exception>
    public Task SetAnnotationAsync(
        string name, string? value, CancellationToken cancellationToken, bool onlyIfMissing = false) =>
        ChangeAsync(line: null, SandboxOperation.Process, () =>
        {
            if (onlyIfMissing && Annotations.ContainsKey(name))
            {
                return Claim;
            }

            var annotations = Annotations.Where(a => a.Key != name).ToDictionary();
            if (value is not null)
            {
                annotations[name] = value;
            }

            RequestLimits.CheckAnnotations(annotations);
            return Claim with { Annotations = annotations };
        }, cancellationToken);

    /// <summary>Begins to watch the end.</summary>
    /// <param name="due">Called when the sandbox must end.</param>
    internal void WatchEnd(Action due)
    {
        _endDue = due;
        ArmEnd();
    }

    /// <summary>Stops watching the end: the next server does it.</summary>
    internal void LeaveEnd()
    {
        lock (_lock)
        {
            _endDue = null;
            _endTimer?.Dispose();
        }
    }

    // By the timer's clock, which nobody sets; null for no end.
    private TimeSpan? TimeLeft
    {
        get
        {
            lock (_lock)
            {
                return _endTimer is null ? null : _time.GetElapsedTime(_time.GetTimestamp(), _endTicks);
            }
        }
    }

    // The record has the wall clock's time, which may have been set back since: no end is further away than the longest that can be set.
    // From here on the timer's clock counts.
    private void ArmEnd()
    {
        lock (_lock)
        {
            if (_end is not null || _endDue is null || Claim.EndsAt is not { } end)
            {
                return;
            }

            var left = end - _time.GetUtcNow();
            var rest = left < TimeSpan.Zero ? TimeSpan.Zero : left > RequestLimits.MaxEnd ? RequestLimits.MaxEnd : left;
            _endTicks = _time.GetTimestamp() + (long)(rest.TotalSeconds * _time.TimestampFrequency);
            _endTimer ??= _time.CreateTimer(_ => EndIfDue(), null, Timeout.InfiniteTimeSpan, Timeout.InfiniteTimeSpan);
            _endTimer.Change(rest, Timeout.InfiniteTimeSpan);
        }
    }

    // The end may have been moved while the timer fired: then the timer fires again.
    private void EndIfDue()
    {
        Action due;
        lock (_lock)
        {
            if (_endDue is null)
            {
                return;
            }

            due = _endDue;
            // Read once: a timer may fire a little early, and a negative time would stop it.
            if (_time.GetElapsedTime(_time.GetTimestamp(), _endTicks) is { Ticks: > 0 } left)
            {
                _endTimer?.Change(left + TimeSpan.FromMilliseconds(1), Timeout.InfiniteTimeSpan);
                return;
            }
        }

        due();
    }
}
