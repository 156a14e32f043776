using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Networking;

/// <summary>
/// Checks the network rules every second while the server runs, and repairs them: the host's table (compared when nftables' generation id
/// has changed), the rules of each slot, the host's addresses in both, forwarding, and accept rules in other programs' firewalls. While the
/// table or a slot's rules are missing, or could not be checked, no microVM is handed out. If another program removes the table repeatedly,
/// the table is written again at growing intervals.
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
    private readonly SemaphoreSlim _checking = new(1, 1);
    private readonly Queue<long> _recent = new();
    private readonly PeriodicWork _work;
    private int _pass;
    private long _pausedUntil;
    private volatile string? _missing, _missingInSlots, _unchecked;
    private bool _wasForeignChanged = true;

    /// <summary>Starts the watch.</summary>
    public NetworkWatch(NetworkRules network, Meter meter, TimeProvider time, ILogger<NetworkWatch> logger)
    {
        (_network, _time, _logger) = (network, time, logger);
        _pausedUntil = time.GetTimestamp();
        _repairs = meter.CreateCounter<long>("pandora_protection_repairs",
            description: "Network rules that another program had removed or changed and that were repaired, by kind");
        meter.CreateObservableGauge("pandora_protected", () => Missing is null ? 1 : 0,
            description: "1 when the rules that isolate guests were complete at the last check, else 0: then no microVM is handed out");
        foreach (var what in Label.All<ProtectionRepair>())
        {
            _repairs.Add(0, new KeyValuePair<string, object?>("what", what));
        }

        _work = new PeriodicWork("The watch over the host's network", Interval, CheckAsync, time, logger);
    }

    /// <summary>Which part of the isolation rules is missing; null when they were complete at the last check.</summary>
    public string? Missing => _missing ?? _missingInSlots ?? _unchecked;

    /// <summary>Checks the isolation rules, and repairs the table if it is incomplete. This is one question to the kernel; the table is
    /// listed only when rules of the host have changed since the last check.</summary>
    /// <exception cref="PandoraException">The rules are incomplete and could not be repaired.</exception>
    public async ValueTask EnsureAsync(CancellationToken cancellationToken)
    {
        try
        {
            if (Missing is null && _network.IsUnchanged())
            {
                return;
            }

            if (!await _checking.WaitAsync(ClaimWait, cancellationToken))
            {
                throw Refused("the rules could not be checked in time");
            }

            try
            {
                CheckTable();
            }
            finally
            {
                _checking.Release();
            }
        }
        catch (Exception e) when (e is IOException or NftablesException or ObjectDisposedException)
        {
            throw Refused($"the rules could not be checked ({e.Message})");
        }

        if (Missing is { } missing)
        {
            throw Refused(missing);
        }
    }

    /// <inheritdoc/>
    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private static PandoraException Refused(string missing) =>
        new(
            PandoraError.NotProtected,
            "the rules that isolate guests from the host's networks are incomplete, and no microVM is handed out until they are repaired")
        {
            Hint = missing,
        };

    private async Task CheckAsync(CancellationToken cancellationToken)
    {
        await _checking.WaitAsync(cancellationToken);
        try
        {
            var pass = _pass++;
            await CheckProtectionAsync(withSlots: pass % SlotsEvery == 0);
            await CheckEgressAsync(pass, cancellationToken);
        }
        finally
        {
            _checking.Release();
        }
    }

    private async Task CheckProtectionAsync(bool withSlots)
    {
        try
        {
            var hasChanged = _network.UpdateAddresses();
            if (_missing is not null || !_network.IsUnchanged())
            {
                CheckTable();
            }

            if (withSlots || hasChanged || _missingInSlots is not null)
            {
                (var repaired, _missingInSlots) = await _network.CheckSlotsAsync();
                Count(ProtectionRepair.SlotRules, repaired);
            }

            _unchecked = null;
        }
        catch (Exception e)
        {
            _unchecked = $"the rules could not be checked ({e.Message})";
            throw;
        }
    }

    // Nothing of this isolates guests: without it they cannot reach the internet.
    private async Task CheckEgressAsync(int pass, CancellationToken cancellationToken)
    {
        Count(ProtectionRepair.Forwarding, _network.CheckForwarding(withSlots: pass % ForeignEvery == 0));

        // Listing a large firewall takes long, so this is not done at each change. Changes by the older iptables do not change the
        // generation id, so all are listed from time to time.
        if ((_wasForeignChanged && pass % ForeignEvery == 0) || pass % LegacyEvery == 0)
        {
            _wasForeignChanged = false;
            Count(ProtectionRepair.ForeignAccept, await _network.CheckForeignAsync(cancellationToken) ? 1 : 0);
        }
    }

    // Call it with the semaphore held.
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
            _missing = $"{missing}, and could not be written again: {e.Message}";
            LogNotRepaired(_missing);
        }

        Pause();
    }

    // The first few times the table is written again at once; after that with pauses of two seconds, four seconds, and so on.
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

    [LoggerMessage(
        Level = LogLevel.Error, Message = "Another program has changed this host's firewall: {Missing}. The table was written again")]
    private partial void LogRepaired(string missing);

    [LoggerMessage(
        Level = LogLevel.Critical, Message = "The rules that isolate guests are incomplete, and no microVM is handed out: {Missing}")]
    private partial void LogNotRepaired(string missing);

    [LoggerMessage(
        Level = LogLevel.Critical,
        Message = "Another program removes Pandora's firewall table again and again ({Count} times within {Window:0} s). The table is "
            + "written again in {Seconds:0} s, and no microVM is handed out while it is missing. Configure that program not to remove "
            + "tables of other programs")]
    private partial void LogContested(int count, double window, double seconds);
}
