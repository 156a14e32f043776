using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Networking;

/// <summary>
/// Sees while the server runs that what keeps guests in is there, and puts back what is missing: the host's table (by nftables' generation
/// id, compared when that changed), the rules of each slot, the host's own addresses in both, forwarding, accepts in foreign firewalls.
/// While the table or a slot's rules are missing, or could not be looked at, no microVM is handed out. Where another program removes the
/// table again and again it is put back at growing intervals.
/// </summary>
internal sealed partial class NetworkWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(1), LongestPause = TimeSpan.FromSeconds(30);
    private static readonly TimeSpan Memory = TimeSpan.FromMinutes(2), ClaimWait = TimeSpan.FromSeconds(2);
    private const int SlotsEvery = 2, ForeignEvery = 5, LegacyEvery = 30, Patience = 3;
    private readonly NetworkRules _network;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly Counter<long> _repairs;
    private readonly SemaphoreSlim _one = new(1, 1);
    private readonly Queue<long> _recent = new();
    private readonly PeriodicWork _work;
    private int _pass;
    private long _pausedUntil;
    private volatile string? _missing, _missingInSlots, _unseen;
    private bool _wasForeignChanged = true;

    /// <summary>Starts it.</summary>
    public NetworkWatch(NetworkRules network, Meter meter, TimeProvider time, ILogger<NetworkWatch> logger)
    {
        (_network, _time, _logger) = (network, time, logger);
        _pausedUntil = time.GetTimestamp();
        _repairs = meter.CreateCounter<long>("pandora_protection_repairs",
            description: "What keeps guests in and was put back because another program had removed or changed it, by what it was");
        meter.CreateObservableGauge("pandora_protected", () => Missing is null ? 1 : 0,
            description: "1 while what keeps guests in was there when it was last looked at, else 0: then no microVM is handed out");
        foreach (var what in Label.All<ProtectionRepair>())
        {
            _repairs.Add(0, new KeyValuePair<string, object?>("what", what));
        }

        _work = new PeriodicWork("The watch over the host's network", Interval, CheckAsync, time, logger);
    }

    /// <summary>What of the protection is missing; null when nothing was when it was last looked at.</summary>
    public string? Missing => _missing ?? _missingInSlots ?? _unseen;

    /// <summary>Returns when guests are kept in: one question to the kernel, or where rules of the host were changed since, a look at the
    /// table.</summary>
    /// <exception cref="PandoraException">They are not, and it could not be put back.</exception>
    public async ValueTask EnsureAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (Missing is null && _network.IsUnchanged())
            {
                return;
            }

            if (!await _one.WaitAsync(ClaimWait, cancellationToken))
            {
                throw Refused("it could not be looked at in time");
            }

            try
            {
                CheckTable();
            }
            finally
            {
                _one.Release();
            }
        }
        catch (Exception e) when (e is IOException or NftablesException or ObjectDisposedException)
        {
            throw Refused($"it could not be looked at ({e.Message})");
        }

        if (Missing is { } missing)
        {
            throw Refused(missing);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private static PandoraException Refused(string missing) =>
        new(PandoraError.NotProtected, "what keeps guests from the host's networks is not whole, and no microVM is handed out until it is")
        {
            Hint = missing,
        };

    private async Task CheckAsync(CancellationToken cancellationToken)
    {
        await _one.WaitAsync(cancellationToken);
        try
        {
            var pass = _pass++;
            await CheckProtectionAsync(withSlots: pass % SlotsEvery == 0);
            await CheckWaysOutAsync(pass, cancellationToken);
        }
        finally
        {
            _one.Release();
        }
    }

    private async Task CheckProtectionAsync(bool withSlots)
    {
        try
        {
            var hasMoved = _network.FollowAddresses();
            if (_missing is not null || !_network.IsUnchanged())
            {
                CheckTable();
            }

            if (withSlots || hasMoved || _missingInSlots is not null)
            {
                (var mended, _missingInSlots) = await _network.CheckSlotsAsync();
                Count(ProtectionRepair.SlotRules, mended);
            }

            _unseen = null;
        }
        catch (Exception e)
        {
            _unseen = $"it could not be looked at ({e.Message})";
            throw;
        }
    }

    // Nothing of this keeps guests in: without it they do not get out.
    private async Task CheckWaysOutAsync(int pass, CancellationToken cancellationToken)
    {
        Count(ProtectionRepair.Forwarding, _network.CheckForwarding(withSlots: pass % ForeignEvery == 0));

        // Listing all of a large firewall takes long, so not at each change; the older iptables' changes are not seen at all.
        if ((_wasForeignChanged && pass % ForeignEvery == 0) || pass % LegacyEvery == 0)
        {
            _wasForeignChanged = false;
            Count(ProtectionRepair.ForeignAccept, await _network.CheckForeignAsync(cancellationToken) ? 1 : 0);
        }
    }

    // One at a time.
    private void CheckTable()
    {
        _wasForeignChanged = true;
        if (_network.CheckTable() is not { } missing)
        {
            _missing = null;
            return;
        }

        if (_time.GetElapsedTime(_pausedUntil) < TimeSpan.Zero)
        {
            _missing = $"{missing}, again and again: another program on this host removes it";
            return;
        }

        try
        {
            _missing = missing;
            _network.WriteTable();
            _missing = null;
            Count(ProtectionRepair.HostTable, 1);
            LogRepaired(missing);
        }
        catch (NftablesException e)
        {
            _missing = $"{missing}, and it could not be put back: {e.Message}";
            LogNotRepaired(_missing);
        }

        Pause();
    }

    // The first few are put back at once; from then on it is one every two seconds, every four, and so on.
    private void Pause()
    {
        var now = _time.GetTimestamp();
        _recent.Enqueue(now);
        while (_time.GetElapsedTime(_recent.Peek(), now) > Memory)
        {
            _recent.Dequeue();
        }

        if (_recent.Count > Patience)
        {
            var pause = TimeSpan.FromSeconds(Math.Min(LongestPause.TotalSeconds, Math.Pow(2, _recent.Count - Patience)));
            _pausedUntil = now + (long)(pause.TotalSeconds * _time.TimestampFrequency);
            LogContested(_recent.Count, Memory.TotalSeconds, pause.TotalSeconds);
        }
    }

    private void Count(ProtectionRepair what, int repairs)
    {
        if (repairs > 0)
        {
            _repairs.Add(repairs, new KeyValuePair<string, object?>("what", Label.Of(what)));
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "Another program has changed this host's firewall: {Missing}. It was written again")]
    private partial void LogRepaired(string missing);

    [LoggerMessage(
        Level = LogLevel.Critical, Message = "Guests are not kept in as they should be, and no microVM is handed out: {Missing}")]
    private partial void LogNotRepaired(string missing);

    [LoggerMessage(
        Level = LogLevel.Critical,
        Message = "Another program removes Pandora's firewall table again and again ({Count} times within {Window:0} s): it is written "
            + "again in {Seconds:0} s, and no microVM is handed out while it is missing. Make that program leave tables alone that are "
            + "not its own")]
    private partial void LogContested(int count, double window, double seconds);
}
