using System.Buffers.Binary;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>What <see cref="NetworkWatch"/> looks at, and how it is put back.</summary>
internal sealed partial class NetworkRules
{
    private const ushort GetGeneration = 0x0A10; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
    private const ushort GenerationId = 1; // NFTA_GEN_ID
    private const int WriteTries = 5;
    private NetworkPolicy? _writtenPolicy;
    private IReadOnlyList<string>? _writtenOpened;
    private string _table = "";
    private long _verified = -1;
    private int _mendedAtClaims;

    /// <summary>Whether no rule of the host was changed since the table was last seen whole: one question to the kernel.</summary>
    internal bool IsUnchanged()
    {
        lock (_netlink)
        {
            return ReadGeneration(_netlink) == Interlocked.Read(ref _verified);
        }
    }

    /// <summary>Compares the host's table with what was written. Where it is whole but of addresses that the host no longer has, it is
    /// written anew.</summary>
    /// <returns>Null when it is whole, else what is wrong with it.</returns>
    /// <exception cref="NftablesException">It could not be written anew.</exception>
    internal string? CheckTable()
    {
        // Before the rules are read: what changes meanwhile is looked at again.
        var generation = ReadHostGeneration();
        var now = TryListTable();
        if (now != _table)
        {
            return now is null ? $"the table inet {_names.TableName} is gone" : $"the table inet {_names.TableName} was changed";
        }

        if (ReferenceEquals(_writtenPolicy, _policy) && ReferenceEquals(_writtenOpened, _opened))
        {
            Interlocked.Exchange(ref _verified, generation);
        }
        else
        {
            WriteTable();
        }

        return null;
    }

    /// <summary>Writes the host's table, in place of one that is there, and remembers what the kernel makes of it.</summary>
    /// <exception cref="NftablesException">It could not be written, or others change rules all the time.</exception>
    internal void WriteTable()
    {
        for (var tries = 0; tries < WriteTries; tries++)
        {
            var (policy, opened, before) = (_policy, _opened, ReadHostGeneration());
            _nftables.Run(HostRules.Text(_names, policy, opened));
            var table = TryListTable();
            // Only when nobody else changed a rule meanwhile is what was listed what was written.
            if (table is not null && ReadHostGeneration() == NextGeneration(before))
            {
                (_table, _writtenPolicy, _writtenOpened) = (table, policy, opened);
                Interlocked.Exchange(ref _verified, NextGeneration(before));
                return;
            }
        }

        throw new NftablesException($"other programs changed this host's rules at each of {WriteTries} tries to write the table");
    }

    /// <summary>Takes note of the host's addresses. Its table and the slots' rules follow at their next check, and at each after it until
    /// they do.</summary>
    /// <returns>Whether they had changed.</returns>
    internal bool FollowAddresses()
    {
        var now = HostAddresses.Read();
        if (now.IsSameAs(_policy.Host))
        {
            return false;
        }

        _policy = _policy with { Host = now };
        Interlocked.Exchange(ref _verified, -1);
        LogAddresses(_logger, string.Join(", ", now.OnLink));
        return true;
    }

    /// <summary>Looks whether each slot's rules are those that were written, and writes those again that are not, or that are of addresses
    /// that the host no longer has.</summary>
    /// <returns>How many another program had changed, and what is wrong with one that could not be looked at or written.</returns>
    internal async Task<(int Mended, string? Problem)> CheckSlotsAsync()
    {
        // In one go on the thread: it is mostly entering and asking one question.
        var problems = new List<string>();
        var changed = await _checks.RunAsync(() => _guarded.Values.Where(s => Check(s, problems.Add)).ToList());
        changed.ForEach(s => LogSlotRepaired(_logger, s.Slot.Index));
        return (changed.Count + Interlocked.Exchange(ref _mendedAtClaims, 0), problems.FirstOrDefault());
    }

    /// <summary>Turns forwarding on again where it was turned off.</summary>
    /// <param name="withSlots">Whether to look at the slots' interfaces as well as at the uplinks.</param>
    /// <returns>How many were put back.</returns>
    internal int CheckForwarding(bool withSlots)
    {
        var off = Forwarding.FindOff(_ways);
        if (off.Except(_opened).Any())
        {
            // From now on such an uplink forwards because of us, and for our guests alone: the table says so first.
            _opened = [.. _opened.Union(off)];
            WriteTable();
        }

        _forwarding.Open(off);
        return off.Count + (withSlots ? _guarded.Values : [])
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

    private async Task TryAdoptAsync(NetworkSlot slot, Egress egress)
    {
        try
        {
            var guarded = new GuardedSlot(slot, egress, _policy);
            await _claims.RunAsync(slot.NamespacePath, () =>
            {
                guarded.Write(guarded.Policy);
                LimitFragments();
                return true;
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
    private static void LimitFragments()
    {
        // The kernel refuses a high mark below the low one.
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_low_thresh", "196608");
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_high_thresh", "262144");
    }

    // On the checks' thread. True when another program had changed something there.
    private bool Check(GuardedSlot slot, Action<string> problem)
    {
        try
        {
            return _checks.In(slot.Slot.NamespacePath, () =>
            {
                lock (slot)
                {
                    var isChanged = ReadGeneration() != slot.Generation;
                    if (!_guarded.ContainsKey(slot.Slot.Index) || slot.IsAsWritten(_policy))
                    {
                        return false;
                    }

                    slot.Write(_policy);
                    return isChanged;
                }
            });
        }
        catch (Exception e) when (e is IOException or NftablesException)
        {
            // One that is being taken down has no namespace any more.
            if (_guarded.ContainsKey(slot.Slot.Index))
            {
                LogSlotNotChecked(_logger, slot.Slot.Index, e.Message);
                problem($"the rules in the namespace of network slot {slot.Slot.Index} could not be looked at or written: {e.Message}");
            }

            return false;
        }
    }

    private string? TryListTable()
    {
        try
        {
            return _nftables.Run($"list table inet {_names.TableName}", asText: true);
        }
        catch (NftablesException)
        {
            return null;
        }
    }

    private long ReadHostGeneration()
    {
        lock (_netlink)
        {
            return ReadGeneration(_netlink);
        }
    }

    // The kernel adds one for each transaction, and leaves out 0 (nf_tables_commit in net/netfilter/nf_tables_api.c).
    private static long NextGeneration(long generation) => generation == uint.MaxValue ? 1 : generation + 1;

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

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "The host's addresses changed: guests are refused the networks that it is on now ({Networks})")]
    private static partial void LogAddresses(ILogger logger, string networks);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The rules in the namespace of network slot {Slot} were changed by another program, and were written again")]
    private static partial void LogSlotRepaired(ILogger logger, int slot);

    [LoggerMessage(Level = LogLevel.Error, Message = "The rules in the namespace of network slot {Slot} could not be looked at: {Error}")]
    private static partial void LogSlotNotChecked(ILogger logger, int slot, string error);

    /// <summary>A slot whose rules are watched. Locked while they are changed; what changes them runs in its namespace.</summary>
    private sealed class GuardedSlot(NetworkSlot slot, Egress egress, NetworkPolicy policy)
    {
        public NetworkSlot Slot => slot;

        public Egress Egress { get; set; } = egress;

        /// <summary>What its rules were made of.</summary>
        public NetworkPolicy Policy { get; private set; } = policy;

        /// <summary>The kernel's count of changes after the last one of ours; -1 when others may have changed something since.</summary>
        public long Generation { get; set; } = -1;

        /// <summary>Whether its rules are what they should be: nobody changed them, and they are of a policy.</summary>
        public bool IsAsWritten(NetworkPolicy policy) => ReferenceEquals(Policy, policy) && ReadGeneration() == Generation;

        /// <summary>Writes all of its rules.</summary>
        public void Write(NetworkPolicy policy)
        {
            Run(SlotRules.Text(slot, policy, Egress));
            Policy = policy;
        }

        /// <summary>Writes what its guest may reach, where all else is as it was written.</summary>
        public void WriteEgress() => Run(SlotRules.EgressText(Egress));

        private void Run(string transaction)
        {
            using var nftables = new Nftables();
            var before = ReadGeneration();
            nftables.Run(transaction);
            Generation = ReadGeneration() is var now && now == NextGeneration(before) ? now : -1;
        }
    }
}
