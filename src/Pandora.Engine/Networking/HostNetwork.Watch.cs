using System.Buffers.Binary;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>What <see cref="NetworkWatch"/> looks at, and how it is put back.</summary>
public sealed partial class HostNetwork
{
    private const ushort GetGeneration = 0x0A10; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
    private const ushort GenerationId = 1; // NFTA_GEN_ID
    private string _table = "";
    private long _verified = -1;

    /// <summary>Whether no rule of the host was changed since the table was last seen whole: one question to the kernel.</summary>
    internal bool IsUnchanged()
    {
        lock (_netlink)
        {
            return ReadGeneration(_netlink) == Interlocked.Read(ref _verified);
        }
    }

    /// <summary>Compares the host's table with what was written.</summary>
    /// <returns>Null when it is whole, else what is wrong with it.</returns>
    internal string? CheckTable()
    {
        long generation;
        lock (_netlink)
        {
            // Before the rules are read: what changes meanwhile is looked at again.
            generation = ReadGeneration(_netlink);
        }

        var now = TryListTable();
        if (now == _table)
        {
            Interlocked.Exchange(ref _verified, generation);
            return null;
        }

        return now is null ? $"the table inet {_instance.TableName} is gone" : $"the table inet {_instance.TableName} was changed";
    }

    /// <summary>Writes the host's table, in place of one that is there, and remembers what the kernel makes of it.</summary>
    internal void WriteTable()
    {
        _nftables.Run(HostRules.Text(_instance, _policy, _opened));
        _table = TryListTable() ?? throw new NftablesException("the table was removed at once");
        CheckTable();
    }

    /// <summary>Follows the host's addresses: puts them into the sets of the host's table and of each slot's.</summary>
    /// <returns>Whether they had changed.</returns>
    internal async Task<bool> FollowAddressesAsync()
    {
        var now = HostAddresses.Read(_instance.InterfacePrefix);
        var policy = _policy;
        if (now.IsSameAs(policy.Host))
        {
            return false;
        }

        // First for slots that are made from now on.
        _policy = policy with { Host = now };
        await _checks.RunAsync(() => _guarded.Values.Count(s => TryIn(s, nftables => nftables.Run(_policy.UpdateText(SlotRules.Table)))));

        _nftables.Run(_policy.UpdateText(_instance.TableName));
        _table = TryListTable() ?? _table;
        CheckTable();
        LogAddresses(_logger, string.Join(", ", now.OnLink));
        return true;
    }

    /// <summary>Looks whether each slot's rules are those that were written, and writes those again that are not.</summary>
    /// <returns>How many were put back.</returns>
    internal async Task<int> CheckSlotsAsync()
    {
        // In one go on the thread: it is mostly entering and asking one question.
        var changed = await _checks.RunAsync(() => _guarded.Values.Where(
            s => TryIn(s, nftables => nftables.Run(RulesOf(s.Slot, s.Egress)), onlyIfChanged: true)).ToList());
        changed.ForEach(s => LogSlotMended(_logger, s.Slot.Index));
        return changed.Count;
    }

    /// <summary>Turns forwarding on again where it was turned off.</summary>
    /// <param name="withSlots">Whether to look at the slots' interfaces as well as at the uplinks.</param>
    /// <returns>How many were put back.</returns>
    internal int CheckForwarding(bool withSlots)
    {
        var repaired = _forwarding.Repair(_ways);
        if (repaired.Except(_opened).Any())
        {
            // From now on such an uplink forwards because of us, and for our guests alone.
            _opened = [.. _opened.Union(repaired)];
            WriteTable();
        }

        return repaired.Count + (withSlots ? _guarded.Values : [])
            .Count(s => Forwarding.RepairOwn(s.Slot.InterfaceName, _policy.IsLocalResolver));
    }

    /// <summary>Adds accepts again where a foreign firewall that cuts guests off has lost them.</summary>
    /// <returns>Whether any was missing.</returns>
    internal async Task<bool> CheckForeignAsync(CancellationToken cancellationToken)
    {
        if (!await _foreign.IsIncompleteAsync(_policy.IsLocalResolver, cancellationToken))
        {
            return false;
        }

        await _foreign.RemoveAsync(cancellationToken);
        foreach (var place in await _foreign.AcceptAsync(_policy.IsLocalResolver, cancellationToken))
        {
            LogForeignAccept(_logger, place);
        }

        return true;
    }

    private async Task TryTakeOverAsync(NetworkSlot slot, Egress egress)
    {
        try
        {
            var guarded = new GuardedSlot(slot, egress);
            await _claims.RunAsync(slot.NamespacePath, () =>
            {
                using var nftables = new Nftables();
                nftables.Run(RulesOf(slot, egress));
                LimitFragments();
                return guarded.Generation = ReadGeneration();
            });
            if (egress == Egress.None)
            {
                // What was opened under another server's ceiling is closed.
                ForgetConnections(slot);
            }

            _guarded[slot.Index] = guarded;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NftablesException)
        {
            LogNotTakenOver(_logger, slot.Index, e.Message);
        }
    }

    // In the slot's namespace: a guest's fragments are put together there.
    internal static void LimitFragments()
    {
        // The kernel refuses a high mark below the low one.
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_low_thresh", "196608");
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_high_thresh", "262144");
    }

    // On the checks' thread. True when something was changed there.
    private bool TryIn(GuardedSlot slot, Action<Nftables> change, bool onlyIfChanged = false)
    {
        try
        {
            return _checks.In(slot.Slot.NamespacePath, () =>
            {
                lock (slot)
                {
                    if (onlyIfChanged && (ReadGeneration() == slot.Generation || !_guarded.ContainsKey(slot.Slot.Index)))
                    {
                        return false;
                    }

                    using var nftables = new Nftables();
                    change(nftables);
                    slot.Generation = ReadGeneration();
                    return true;
                }
            });
        }
        catch (Exception e) when (e is IOException or NftablesException)
        {
            // One that is being taken down has no namespace any more.
            if (_guarded.ContainsKey(slot.Slot.Index))
            {
                LogSlotNotChecked(_logger, slot.Slot.Index, e.Message);
            }

            return false;
        }
    }

    private string? TryListTable()
    {
        try
        {
            return _nftables.Run($"list table inet {_instance.TableName}", asText: true);
        }
        catch (NftablesException)
        {
            return null;
        }
    }

    // For the namespace of the calling thread.
    private static long ReadGeneration()
    {
        using var netlink = new Netlink(Netlink.Netfilter, bufferBytes: 1024);
        return ReadGeneration(netlink);
    }

    // struct nfgenmsg: no family, version, resource.
    private static long ReadGeneration(Netlink netlink)
    {
        long generation = -2;
        netlink.Ask(GetGeneration, [0, 0, 0, 0], (_, body) =>
        {
            if (Netlink.Find(body[4..], GenerationId) is { Length: 4 } id)
            {
                generation = BinaryPrimitives.ReadUInt32BigEndian(id);
            }
        });
        return generation;
    }

    [LoggerMessage(Level = LogLevel.Information, Message = "The host's addresses changed: guests are refused the networks that it is on now ({Networks})")]
    private static partial void LogAddresses(ILogger logger, string networks);

    [LoggerMessage(Level = LogLevel.Error, Message = "The rules in the namespace of network slot {Slot} were changed by another program, and were written again")]
    private static partial void LogSlotMended(ILogger logger, int slot);

    [LoggerMessage(Level = LogLevel.Error, Message = "The rules in the namespace of network slot {Slot} could not be looked at: {Error}")]
    private static partial void LogSlotNotChecked(ILogger logger, int slot, string error);

    /// <summary>A slot whose rules are watched. Locked while they are changed.</summary>
    private sealed class GuardedSlot(NetworkSlot slot, Egress egress)
    {
        public NetworkSlot Slot => slot;

        public Egress Egress { get; set; } = egress;

        public long Generation { get; set; } = -1;
    }
}
