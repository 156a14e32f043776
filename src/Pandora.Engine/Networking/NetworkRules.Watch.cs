using System.Buffers.Binary;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>The checks and repairs of <see cref="NetworkWatch"/>.</summary>
internal sealed partial class NetworkRules
{
    private const ushort GetGeneration = 0x0A10; // NFNL_SUBSYS_NFTABLES, NFT_MSG_GETGEN
    private const ushort GenerationId = 1; // NFTA_GEN_ID
    private const int WriteTries = 5;
    private NetworkPolicy? _writtenPolicy;
    private IReadOnlyList<string>? _writtenOpened;
    private string _table = "";
    private long _verified = -1;
    private int _repairedAtClaims;

    /// <summary>Whether no rule of the host has changed since the table was last seen complete: one question to the kernel.</summary>
    internal bool IsUnchanged()
    {
        lock (_netlink)
        {
            return ReadGeneration(_netlink) == Interlocked.Read(ref _verified);
        }
    }

    /// <summary>Compares the host's table with the table that this server wrote. If they are equal, but the host's addresses have changed,
    /// the table is written again.</summary>
    /// <returns>Null when the table is complete, else what is wrong with it.</returns>
    /// <exception cref="NftablesException">The table could not be written again.</exception>
    internal string? CheckTable()
    {
        // Read the generation before the rules: a change in between leads to another check.
        var generation = ReadHostGeneration();
        var now = TryListTable();
        if (now != _table)
        {
            return now is null ? $"the table inet {_names.TableName} was removed" : $"the table inet {_names.TableName} was changed";
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

    /// <summary>Writes the host's table, replacing an existing one, and remembers how the kernel lists it.</summary>
    /// <exception cref="NftablesException">The table could not be written, or other programs change rules all the time.</exception>
    internal void WriteTable()
    {
        for (var tries = 0; tries < WriteTries; tries++)
        {
            var (policy, opened, before) = (_policy, _opened, ReadHostGeneration());
            _nftables.Run(HostRules.Text(_names, policy, opened));
            var table = TryListTable();
            // The list shows what was written only if no other program changed a rule in between.
            if (table is not null && ReadHostGeneration() == NextGeneration(before))
            {
                (_table, _writtenPolicy, _writtenOpened) = (table, policy, opened);
                Interlocked.Exchange(ref _verified, NextGeneration(before));
                return;
            }
        }

        throw new NftablesException($"other programs changed this host's rules at each of {WriteTries} tries to write the table");
    }

    /// <summary>Reads the host's addresses. If they have changed, the next check writes the host's table and the slots' rules again, and if
    /// that fails, the check after it.</summary>
    /// <returns>Whether the addresses had changed.</returns>
    internal bool UpdateAddresses()
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

    /// <summary>Checks whether each slot's rules are those that this server wrote. Writes them again if they are not, or if the host's
    /// addresses have changed.</summary>
    /// <returns>How many slots another program had changed, and what is wrong with a slot that could not be checked or written.</returns>
    internal async Task<(int Repaired, string? Problem)> CheckSlotsAsync()
    {
        // All slots in one job for the thread: for each slot it mostly enters the namespace and asks one question.
        var problems = new List<string>();
        var changed = await _checks.RunAsync(() => _guarded.Values.Where(s => Check(s, problems.Add)).ToList());
        changed.ForEach(s => LogSlotRepaired(_logger, s.Slot.Index));
        return (changed.Count + Interlocked.Exchange(ref _repairedAtClaims, 0), problems.FirstOrDefault());
    }

    /// <summary>Turns forwarding on again where another program turned it off.</summary>
    /// <param name="withSlots">Whether to check the slots' interfaces in addition to the uplinks.</param>
    /// <returns>How many interfaces were repaired.</returns>
    internal int CheckForwarding(bool withSlots)
    {
        var off = Forwarding.FindOff(_uplinks);
        if (off.Except(_opened).Any())
        {
            // From now on such an uplink forwards only for this instance's guests: the table enforces that before forwarding is on.
            _opened = [.. _opened.Union(off)];
            WriteTable();
        }

        _forwarding.Open(off);
        return off.Count + (withSlots ? _guarded.Values : [])
            .Count(s => Forwarding.RepairInterface(s.Slot.InterfaceName, _policy.IsLocalResolver));
    }

    /// <summary>Adds accept rules again if they are missing in another program's firewall that drops guests' packets.</summary>
    /// <returns>Whether a rule was missing.</returns>
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

    private async Task TryAdoptAsync(NetworkSlot slot, EgressPolicy egress)
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
            if (!egress.HasEgress)
            {
                // Close connections that an earlier server with wider egress allowed.
                ForgetConnections(slot);
            }

            _guarded[slot.Index] = guarded;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or NftablesException)
        {
            LogNotAdopted(_logger, slot.Index, e.Message);
        }
    }

    // For the slot's namespace, where the kernel reassembles the guest's fragments.
    private static void LimitFragments()
    {
        // The low threshold first: the kernel refuses a high threshold below it.
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_low_thresh", "196608");
        File.WriteAllText("/proc/sys/net/ipv4/ipfrag_high_thresh", "262144");
    }

    // Runs on the thread of the checks. True when another program had changed the slot's rules.
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
            // A slot that is being cleaned up has no namespace any more.
            if (_guarded.ContainsKey(slot.Slot.Index))
            {
                LogSlotNotChecked(_logger, slot.Slot.Index, e.Message);
                problem($"the rules in the namespace of network slot {slot.Slot.Index} could not be checked or written: {e.Message}");
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

    // The kernel adds one for each transaction, and skips 0 (nf_tables_commit in net/netfilter/nf_tables_api.c).
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
        Message = "The host's addresses changed: guests cannot reach the networks of its interfaces, which are now {Networks}")]
    private static partial void LogAddresses(ILogger logger, string networks);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Another program had changed the rules in the namespace of network slot {Slot}; they were written again")]
    private static partial void LogSlotRepaired(ILogger logger, int slot);

    [LoggerMessage(Level = LogLevel.Error, Message = "The rules in the namespace of network slot {Slot} could not be checked: {Error}")]
    private static partial void LogSlotNotChecked(ILogger logger, int slot, string error);

    /// <summary>A slot whose rules are watched. Lock it to change the rules; the change must run in the slot's namespace.</summary>
    private sealed class GuardedSlot(NetworkSlot slot, EgressPolicy egress, NetworkPolicy policy)
    {
        public NetworkSlot Slot => slot;

        public EgressPolicy Egress { get; set; } = egress;

        /// <summary>Whether the guest may have connections that its egress refuses.</summary>
        public bool MustCut { get; set; }

        /// <summary>The policy that its rules were made of.</summary>
        public NetworkPolicy Policy { get; private set; } = policy;

        /// <summary>The kernel's generation id after this server's last change; -1 when another program may have changed rules
        /// since.</summary>
        public long Generation { get; set; } = -1;

        /// <summary>Whether its rules are of a policy and no other program has changed them.</summary>
        public bool IsAsWritten(NetworkPolicy policy) => ReferenceEquals(Policy, policy) && ReadGeneration() == Generation;

        /// <summary>Writes all of its rules.</summary>
        public void Write(NetworkPolicy policy)
        {
            Run(SlotRules.Text(slot, policy, Egress), ReadGeneration());
            Policy = policy;
        }

        /// <summary>Writes only what its guest may reach, which must have changed. All other rules must be as they were
        /// written.</summary>
        public void WriteEgress(EgressPolicy before) => Run(SlotRules.EgressText(before, Egress), Generation);

        private void Run(string transaction, long before)
        {
            using var nftables = new Nftables();
            nftables.Run(transaction);
            Generation = ReadGeneration() is var now && now == NextGeneration(before) ? now : -1;
        }
    }
}
