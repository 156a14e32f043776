using System.Net;
using Microsoft.AspNetCore.Connections;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// All open connections, and which of them must go: clients without a key must not be able to keep out those with one. Only admitted
/// connections may stay for as long as they like; the others have little time, and are closed for newcomers.
/// </summary>
internal sealed partial class ConnectionTable : IDisposable
{
    private static readonly TimeSpan SweepInterval = TimeSpan.FromSeconds(1);
    private static readonly TimeSpan LogInterval = TimeSpan.FromMinutes(1);
    // Their descriptors are free; their memory is not yet.
    private const int MostClosing = 64, MostPassed = 8;
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

    /// <summary>Most that may be open.</summary>
    public int Limit => _limits.Total;

    /// <summary>How many there are of each kind.</summary>
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
    /// Takes in a newcomer, closing the oldest without a key where a bound is reached: that of the newcomer's address first, so that an
    /// address that has too many pays itself. Null: the newcomer must go, because all that would have to make room have shown a key.
    /// </summary>
    /// <param name="address">Where it comes from.</param>
    /// <param name="close">Resets it, as long as the web server has not been given it.</param>
    /// <param name="hasSent">Whether something has come from it that was not read yet. Must not block or throw.</param>
    public TrackedConnection? TryAdd(IPAddress address, Action close, Func<bool>? hasSent = null)
    {
        var plain = address.IsIPv4MappedToIPv6 ? address.MapToIPv4() : address;
        var source = ConnectionLimits.SourceOf(plain);
        var newcomer = new TrackedConnection(this, source, close, hasSent);
        var victims = new List<(TrackedConnection Connection, ClosingReason Reason)>(2);
        ClosingReason? refusal = null;
        lock (_lock)
        {
            ConnectionBound? own = null;
            if (!_limits.IsExempt(plain) && !_byAddress.TryGetValue(source, out own))
            {
                own = new ConnectionBound(_limits.PerAddress);
            }

            if (own?.IsFull == true && !TryTake(own, ClosingReason.Address, victims))
            {
                refusal = ClosingReason.Address;
            }
            else if (_all.IsFull && !TryTake(_all, ClosingReason.Evicted, victims))
            {
                refusal = ClosingReason.Full;
            }
            else
            {
                newcomer.Since = _time.GetTimestamp();
                _all.Add(newcomer);
                if (own is not null)
                {
                    own.Add(newcomer);
                    // It is new, or has just lost its last one to the newcomer.
                    _byAddress[source] = own;
                }
            }
        }

        Close(victims);
        if (refusal is { } reason)
        {
            _metrics.Refused(reason);
            return null;
        }

        return newcomer;
    }

    /// <summary>
    /// Waits until not too many are on their way out: what the web server holds for them is memory. Not for long: where one does not end,
    /// the others' descriptors are free all the same.
    /// </summary>
    public async ValueTask WaitForRoomAsync(TimeSpan atMost)
    {
        Task room;
        lock (_lock)
        {
            if (_closing < MostClosing)
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
            // Counted on; the next newcomer waits again.
        }
    }

    /// <summary>The first byte has come, and the web server gets the connection; false: it has been closed meanwhile.</summary>
    /// <param name="connection">The connection.</param>
    /// <param name="context">The web server's side of it.</param>
    /// <param name="isAsking">Whether the whole headers of a request are there.</param>
    /// <param name="hasKey">Whether they show a key: it need not be found among others first.</param>
    public bool Speak(TrackedConnection connection, ConnectionContext? context, bool isAsking, bool hasKey = false)
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

    /// <summary>A request has come, and nothing is known of it yet.</summary>
    public void Begin(TrackedConnection connection)
    {
        lock (_lock)
        {
            if (connection.State is ConnectionState.Waiting or ConnectionState.Asking)
            {
                connection.SetState(ConnectionState.Asking);
                connection.Since = _time.GetTimestamp();
            }
        }
    }

    /// <summary>A request has been answered. One that was not let pass leaves the connection waiting for the next.</summary>
    public void End(TrackedConnection connection)
    {
        lock (_lock)
        {
            if (connection.State == ConnectionState.Asking)
            {
                connection.SetState(ConnectionState.Waiting);
                connection.Since = _time.GetTimestamp();
            }
        }
    }

    /// <summary>A request may pass.</summary>
    public void Admit(TrackedConnection connection)
    {
        lock (_lock)
        {
            if (connection.State is ConnectionState.Waiting or ConnectionState.Asking)
            {
                connection.SetState(ConnectionState.Admitted);
            }
        }
    }

    /// <summary>Nothing is left of it.</summary>
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
                Leave(connection);
            }

            connection.State = ConnectionState.Closed;
        }
    }

    /// <summary>Closes the oldest without a key, because descriptors run out; how many.</summary>
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

    /// <summary>Closes those that the web server does not know of.</summary>
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
            // A timer's exception would end the server.
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

        // One that has sent something waits for the server, which has not come to read it. Not many are passed: a byte each is no shelter.
        for (var passed = 0; passed < MostPassed && victim.HasUnread; passed++)
        {
            victim.SetState(ConnectionState.Silent);
            victim = bound.Oldest!;
        }

        Take(victim);
        victims.Add((victim, reason));
        return true;
    }

    // Silent ones are gone as soon as their sockets are closed.
    private void Take(TrackedConnection victim)
    {
        Leave(victim);
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

    private void Leave(TrackedConnection connection)
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
        Message = "{Count} connections were closed or refused to keep room for those with a key: at most {Total} may be open, {PerAddress} "
            + "from one address")]
    private partial void LogRefused(long count, int total, int perAddress);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "The limit of descriptors is {Missing} too low for as many microVMs as PANDORA_MAX_SANDBOXES and the pools allow: raise "
            + "it (ulimit -n, LimitNOFILE=), or lower them")]
    private partial void LogMissing(int missing);

    [LoggerMessage(Level = LogLevel.Error, Message = "Connections that are late could not be closed; it is tried again in a second")]
    private partial void LogSweepFailed(Exception exception);
}
