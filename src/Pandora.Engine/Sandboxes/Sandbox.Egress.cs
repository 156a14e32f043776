using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

// What the guest may reach.
public sealed partial class Sandbox
{
    // Held by the one request that changes the claim.
    private readonly SemaphoreSlim _changeTurn = new(1, 1);

    /// <summary>
    /// Sets what the guest may reach. With <see cref="Egress.None"/> the guest loses the connections that it has open. Requests take
    /// turns, and the last one counts. It is an activity that worked, and does not involve the guest.
    /// </summary>
    /// <param name="egress">What the guest may reach.</param>
    /// <param name="cancellationToken">Ends the wait for other requests. A change that has begun is finished.</param>
    /// <exception cref="PandoraException">The server or the project forbids it, the sandbox has ended, the server stops, or the record or
    /// the rules could not be written. A sandbox that was to lose its egress then loses it as soon as they can be written, and one that was
    /// to get it has none.</exception>
    public async Task SetEgressAsync(Egress egress, CancellationToken cancellationToken)
    {
        var line = Audit(AuditOperation.Egress);
        line.Egress = egress;
        try
        {
            RequestLimits.CheckEgress(egress, _node.Options, _node.Projects(Project), "ask for 'none'");
            using var lease = Use();
            await _changeTurn.WaitAsync(cancellationToken);
            try
            {
                MustNotEnd();
                await ChangeEgressAsync(egress);
            }
            finally
            {
                _changeTurn.Release();
            }

            lease.HasWorked = true;
        }
        catch (Exception e)
        {
            RecordFailed(line, e);
            throw;
        }

        RecordDone(line);
    }

    /// <summary>Completes when no request changes the sandbox's claim. Once the sandbox has begun to end, or its server to stop, none
    /// begins after that: the slot may then be given away.</summary>
    internal async Task WhenUnchangedAsync()
    {
        await _changeTurn.WaitAsync(CancellationToken.None);
        _changeTurn.Release();
    }

    // A server that dies at any step leaves a record that gives no more than the last answer said, or than an unanswered request asked
    // for: its successor sets the rules that the record names. To take the egress away, the record comes first, so that what was begun
    // holds also after a crash. To give it, the rules come first: when one of the two steps fails, the record never had it.
    private async Task ChangeEgressAsync(Egress egress)
    {
        if (egress == Egress.None)
        {
            Record(Claim with { Egress = egress });
            await ChangeRulesAsync(egress);
            return;
        }

        await ChangeRulesAsync(egress);
        try
        {
            Record(Claim with { Egress = egress });
        }
        catch
        {
            await ChangeRulesAsync(Claim.Egress);
            throw;
        }
    }

    // Only the holder of the turn of changes calls it.
    private void Record(ClaimRecord claim)
    {
        try
        {
            MicroVm.RecordClaim(claim);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A record that is gone belongs to a sandbox that ends.
            MustNotEnd();
            throw new PandoraException(PandoraError.HostFull, "the server could not record the change: it was not made", innerException: e)
            {
                Hint = "check that the run directory (PANDORA_RUN_DIR) exists and has room",
            };
        }

        _claim = claim;
    }

    private async Task ChangeRulesAsync(Egress egress)
    {
        try
        {
            await _node.Network.SetEgressAsync(MicroVm.Slot, egress);
        }
        catch (PandoraException)
        {
            // A slot that is being cleaned up has no rules.
            MustNotEnd();
            throw;
        }
    }

    private void MustNotEnd()
    {
        if (End is { } end)
        {
            throw Ended(Id, end);
        }

        _node.MustServe();
    }
}
