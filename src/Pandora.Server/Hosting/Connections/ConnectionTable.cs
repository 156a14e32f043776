using System.Net;
using Microsoft.AspNetCore.Connections;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Holds all open connections and decides which to close, so that clients without a key cannot keep out clients with one. Admitted
/// connections may stay open without a time limit. The others have little time, unless a request is being served on them, and are closed
/// when a new connection needs room.
/// </summary>
internal sealed partial class ConnectionTable : IDisposable
{
    private static readonly TimeSpan SweepInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LogInterval = TimeSpan.FromMinutes(1);
    // The descriptors of closing connections are free; their memory is not free yet.
    private const int MaxClosing = 64, MaxSkipped = 8, MaxSkippedWithKey = 72;
    private readonly ConnectionLimits _limits;
    private readonly ServerMetrics _metrics;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly ITimer _sweep;
    private readonly Lock _lock = new();
    private readonly ConnectionBound _all;
    private readonly Dictionary<IPAddress, ConnectionBound> _byAddress = [];
    private TaskCompletionSource? _roomToClose;
    private int _closing;
    private long _refusedWhenLogged;
    private long? _logged;

    public ConnectionTable(ConnectionLimits limits, ServerMetrics metrics, TimeProvider time, ILogger<ConnectionTable> logger)
    {
        _limits = limits;
        _metrics = metrics;
        _time = time;
        _logger = logger;
        _all = new ConnectionBound(limits.Total);
        _sweep = time.CreateTimer(_ => TrySweep(), null, SweepInterval, SweepInterval);
        metrics.Watch(this);
        if (limits.Missing > 0)
        {
            LogMissing(limits.Missing);
        }
    }

    /// <summary>Largest number of open connections.</summary>
    public int Limit => _limits.Total;

    /// <summary>Number of connections of each kind.</summary>
    public (int Unadmitted, int Admitted) Counts
    {
        get
        {
            lock (_lock)
            {
                return (_all.UnadmittedCount, _all.Count - _all.UnadmittedCount);
            }
        }
    }

    /// <summary>
    /// Adds a new connection. Where a bound is reached, it closes the oldest connection without a valid key: one of the same address first,
    /// so that an address with too many connections loses its own. Returns null if the new connection must be refused, because all
    /// connections that could make room are admitted.
    /// </summary>
    /// <param name="address">Address of the client.</param>
    /// <param name="close">Resets the connection; used until the web server has it.</param>
    /// <param name="hasSent">Whether bytes have come on it that nothing has read yet. Must not block or throw.</param>
    /// <param name="hasKey">Whether these bytes are headers with a valid key. Must not block or throw.</param>
    public TrackedConnection? TryAdd(IPAddress address, Action close, Func<bool>? hasSent = null, Func<bool>? hasKey = null)
    {
        var plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        var source = ConnectionLimits.SourceOf(plain);
        var added = new TrackedConnection(this, source, close, hasSent, hasKey);
        var victims = new List<(TrackedConnection Connection, ClosingReason Reason)>(2);
        ClosingReason? refusal = null;
        lock (_lock)
        {
            ConnectionBound? ofAddress = null;
            if (!_limits.IsExempt(plain) && !_byAddress.TryGetValue(source, out ofAddress))
            {
                ofAddress = new ConnectionBound(_limits.PerAddress);
            }

            if (ofAddress?.IsFull == true && !TryTake(ofAddress, ClosingReason.Address, victims))
            {
                refusal = ClosingReason.Address;
            }
            else if (_all.IsFull && !TryTake(_all, ClosingReason.Evicted, victims))
            {
                refusal = ClosingReason.Full;
            }
            else
            {
                added.Since = _time.GetTimestamp();
                _all.Add(added);
                if (ofAddress is not null)
                {
                    ofAddress.Add(added);
                    // The bound is new, or lost its last connection to this one and was removed.
                    _byAddress[source] = ofAddress;
                }
            }
        }

        Close(victims);
        if (refusal is { } reason)
        {
            _metrics.Refused(reason);
            return null;
        }

        return added;
    }

    /// <summary>
    /// Waits while too many connections are closing, because the web server still holds memory for them. The wait is short: the
    /// descriptors of closing connections are free already, even if one of them does not end.
    /// </summary>
    /// <param name="atMost">Longest wait.</param>
    public async ValueTask WaitForRoomAsync(TimeSpan atMost)
    {
        Task room;
        lock (_lock)
        {
            if (_closing < MaxClosing)
            {
                return;
            }

            _roomToClose ??= new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            room = _roomToClose.Task;
        }

        try
        {
            await room.WaitAsync(atMost, _time);
        }
        catch (TimeoutException)
        {
            // Expected. The next new connection waits again.
        }
    }

    /// <summary>Records that the first byte has come and the web server gets the connection.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="context">The connection as the web server knows it.</param>
    /// <param name="isAsking">Whether the complete headers of a request have come.</param>
    /// <param name="hasKey">Whether the headers contain a valid key. Then the connection is admitted at once.</param>
    /// <returns>False if the connection has been closed meanwhile.</returns>
    public bool Start(TrackedConnection connection, ConnectionContext? context, bool isAsking, bool hasKey = false)
    {
        lock (_lock)
        {
            if (connection.State != ConnectionState.Silent)
            {
                return false;
            }

            connection.Attach(context);
            connection.State = ConnectionState.Waiting;
            if (isAsking)
            {
                connection.SetState(hasKey ? ConnectionState.Admitted : ConnectionState.Asking);
            }

            return true;
        }
    }

    /// <summary>Records that the connection is closed and its memory is free.</summary>
    public void Closed(TrackedConnection connection)
    {
        lock (_lock)
        {
            if (connection.State == ConnectionState.Closing)
            {
                _closing--;
                _roomToClose?.TrySetResult();
                _roomToClose = null;
            }
            else if (connection.State != ConnectionState.Closed)
            {
                RemoveFromBounds(connection);
            }

            connection.State = ConnectionState.Closed;
            // Not disposed: that would wait for Dismiss, which waits for the lock.
            connection.Ended?.Unregister();
            connection.Ended = null;
        }
    }

    /// <summary>Closes the oldest connections without a valid key, because descriptors run out.</summary>
    /// <param name="count">How many to close.</param>
    /// <returns>How many were closed.</returns>
    public int Shed(int count)
    {
        var victims = new List<(TrackedConnection, ClosingReason)>(count);
        lock (_lock)
        {
            while (victims.Count < count && TryTake(_all, ClosingReason.Descriptors, victims))
            {
            }
        }

        Close(victims);
        return victims.Count;
    }

    /// <summary>Closes the connections that the web server does not have yet.</summary>
    public void CloseSilent()
    {
        List<TrackedConnection> silent;
        lock (_lock)
        {
            silent = [.. _all.Waiting.Where(c => c.State == ConnectionState.Silent)];
            silent.ForEach(Take);
        }

        silent.ForEach(c => c.Close(ClosingReason.FirstByte));
    }

    public void Dispose() => _sweep.Dispose();

    private void TrySweep()
    {
        try
        {
            Sweep();
        }
        catch (Exception e)
        {
            // An exception in a timer would end the server.
            LogSweepFailed(e);
        }
    }

    private void Sweep()
    {
        var now = _time.GetTimestamp();
        List<(TrackedConnection, ClosingReason)> late = [];
        lock (_lock)
        {
            foreach (var connection in _all.Waiting.Concat(_all.Asking))
            {
                var age = _time.GetElapsedTime(connection.Since, now);
                if (age >= _limits.Headers || (age >= _limits.FirstByte && connection.State == ConnectionState.Silent))
                {
                    late.Add((connection, connection.State == ConnectionState.Silent ? ClosingReason.FirstByte : ClosingReason.Headers));
                }
            }

            late.ForEach(l => Take(l.Item1));
        }

        Close(late);
        var refused = _metrics.RefusedForWantOfRoom;
        if (refused > _refusedWhenLogged && (_logged is null || _time.GetElapsedTime(_logged.Value, now) >= LogInterval))
        {
            LogRefused(refused - _refusedWhenLogged, _limits.Total, _limits.PerAddress);
            (_refusedWhenLogged, _logged) = (refused, now);
        }
    }

    private bool TryTake(ConnectionBound bound, ClosingReason reason, List<(TrackedConnection, ClosingReason)> victims)
    {
        if (bound.Oldest is not { } victim)
        {
            return false;
        }

        // A connection on which bytes have come waits for the server, so it is skipped. Only a few are skipped: otherwise one byte on each
        // connection would protect a flood. One with a valid key is skipped in any case: no flood has keys.
        for (var skipped = 0; skipped < MaxSkipped ? victim.HasUnread : skipped < MaxSkippedWithKey && victim.HasUnreadKey; skipped++)
        {
            victim.SetState(ConnectionState.Silent);
            victim = bound.Oldest!;
        }

        Take(victim);
        victims.Add((victim, reason));
        return true;
    }

    // A silent connection is gone as soon as its socket is closed.
    private void Take(TrackedConnection victim)
    {
        RemoveFromBounds(victim);
        if (victim.State == ConnectionState.Silent)
        {
            victim.State = ConnectionState.Closed;
        }
        else
        {
            victim.State = ConnectionState.Closing;
            _closing++;
        }
    }

    private void RemoveFromBounds(TrackedConnection connection)
    {
        connection.Places.ForEach(p => p.Bound.Remove(p.Node));
        if (connection.Places.Count > 1 && connection.Places[1].Bound.Count == 0)
        {
            _byAddress.Remove(connection.Address);
        }

        connection.Places.Clear();
    }

    private void Close(List<(TrackedConnection Connection, ClosingReason Reason)> victims)
    {
        foreach (var (connection, reason) in victims)
        {
            _metrics.Refused(reason);
            connection.Close(reason);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "{Count} connections were closed or refused to keep room for clients with a key: at most {Total} may be open, "
            + "{PerAddress} from one address")]
    private partial void LogRefused(long count, int total, int perAddress);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The limit of descriptors is too low by {Missing} for the microVMs that PANDORA_MAX_SANDBOXES and the pools allow: raise "
            + "the limit (ulimit -n, LimitNOFILE=), or lower the settings")]
    private partial void LogMissing(int missing);

    [LoggerMessage(Level = LogLevel.Error, Message = "Late connections could not be closed; the server tries again in a second")]
    private partial void LogSweepFailed(Exception exception);
}
