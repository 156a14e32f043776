using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

// What each slot's guest may reach.
internal sealed partial class NetworkRules
{
    private const string CountPath = "/proc/sys/net/netfilter/nf_conntrack_count";

    /// <summary>
    /// Sets what a slot's guest may reach: one transaction in its namespace, no process. A guest that loses any of it also loses the
    /// connections that it has open, all of them: the rules refuse each further packet to what it lost, with a reset for TCP, and the
    /// kernel forgets the connections. A guest that had no egress and gets it begins with no connection.
    /// </summary>
    /// <exception cref="PandoraException">The slot's rules could not be changed. Once the watch can write the rules again, a guest that was
    /// only to get more has what it had, and any other guest has what was asked for: the same as the record.</exception>
    public async Task SetEgressAsync(NetworkSlot slot, EgressPolicy egress)
    {
        try
        {
            var guarded = _guarded[slot.Index];
            if (await _claims.RunAsync(slot.NamespacePath, () => SetEgress(guarded, egress)))
            {
                // In the host's namespace, for the other side: the host's own kernel answers a packet of a connection that it has
                // forgotten. Connections that the server opened to the guest stay.
                Conntrack.RemoveOpened(_policy.Mark, slot.Address);
            }
        }
        catch (Exception e) when (e is IOException or NftablesException or KeyNotFoundException)
        {
            throw new PandoraException(
                PandoraError.NotProtected, "the rules that say what the microVM's guest may reach could not be set", innerException: e)
            {
                Hint = e.Message,
            };
        }
    }

    // Runs in the slot's namespace. True when the guest lost connections.
    private bool SetEgress(GuardedSlot guarded, EgressPolicy egress)
    {
        lock (guarded)
        {
            var had = guarded.Egress;
            try
            {
                if (!had.HasEgress && egress.HasEgress)
                {
                    // Before the guest gets its egress: a packet that was under way when the guest lost it may have left an entry. From
                    // then on until now none can have been made.
                    ForgetGuest();
                }

                guarded.MustCut |= !egress.HasEgress || !egress.Includes(had);
                guarded.Egress = egress;
                if (guarded.IsAsWritten(_policy))
                {
                    // A transaction that changes nothing does not change the generation id either.
                    if (egress != had)
                    {
                        guarded.WriteEgress(had);
                    }
                }
                else
                {
                    // Another program changed the slot's rules: write all of them.
                    guarded.Write(_policy);
                    Interlocked.Increment(ref _repairedAtClaims);
                    LogSlotRepaired(_logger, guarded.Slot.Index);
                }

                if (!guarded.MustCut)
                {
                    return false;
                }

                var hasLost = ForgetGuest();
                guarded.MustCut = false;
                return hasLost;
            }
            catch (Exception e) when (egress != had || !egress.HasEgress)
            {
                // Whichever of the two the kernel has: the watch writes the rules of the one that the record has.
                (guarded.Egress, guarded.Generation) = (egress.Includes(had) ? had : egress, -1);
                if (e is NftablesException or IOException)
                {
                    LogEgressFailed(_logger, guarded.Slot.Index, e.Message);
                }

                throw;
            }
        }
    }

    // Forgets the connections that the guest opened. False when there cannot have been one, which is the usual case at a claim.
    private static bool ForgetGuest()
    {
        if (File.Exists(CountPath) && File.ReadAllText(CountPath).Trim() == "0")
        {
            return false;
        }

        Conntrack.RemoveOpened(mark: null, NetworkSlot.Guest);
        return true;
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "What the guest of network slot {Slot} may reach could not be set: {Error}. "
            + "Once its rules can be written, it gets no more than it had or was asked for")]
    private static partial void LogEgressFailed(ILogger logger, int slot, string error);
}
