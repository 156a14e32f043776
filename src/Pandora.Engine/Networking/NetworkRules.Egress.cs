using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

// What each slot's guest may reach.
internal sealed partial class NetworkRules
{
    private const string CountPath = "/proc/sys/net/netfilter/nf_conntrack_count";

    /// <summary>
    /// Sets what a slot's guest may reach: one transaction in its namespace, no process. A guest that loses its egress also loses the
    /// connections that it has open: the rules refuse each further packet of a guest without egress, with a reset for TCP, and the kernel
    /// forgets the connections. A guest that gets its egress begins with no connection.
    /// </summary>
    /// <exception cref="PandoraException">The slot's rules could not be changed. Its guest then has no egress once the watch can write the
    /// rules again.</exception>
    public async Task SetEgressAsync(NetworkSlot slot, Egress egress)
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
    private bool SetEgress(GuardedSlot guarded, Egress egress)
    {
        lock (guarded)
        {
            var had = guarded.Egress;
            try
            {
                if (had == Egress.None && egress == Egress.Internet)
                {
                    // Before the guest gets its egress: a packet that was under way when the guest lost it may have left an entry. From
                    // then on until now none can have been made.
                    ForgetGuest();
                }

                guarded.Egress = egress;
                if (guarded.IsAsWritten(_policy))
                {
                    // A transaction that changes nothing does not change the generation id either.
                    if (egress != had)
                    {
                        guarded.WriteEgress();
                    }
                }
                else
                {
                    // Another program changed the slot's rules: write all of them.
                    guarded.Write(_policy);
                    Interlocked.Increment(ref _repairedAtClaims);
                    LogSlotRepaired(_logger, guarded.Slot.Index);
                }

                return egress == Egress.None && ForgetGuest();
            }
            catch (Exception e) when (had == Egress.None || egress == Egress.None)
            {
                // Whichever of the two the kernel has: the watch writes the rules of a guest without egress.
                (guarded.Egress, guarded.Generation) = (Egress.None, -1);
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
            + "It gets no egress once its rules can be written")]
    private static partial void LogEgressFailed(ILogger logger, int slot, string error);
}
