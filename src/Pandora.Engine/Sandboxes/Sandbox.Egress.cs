using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

// What the guest may reach.
public sealed partial class Sandbox
{
    // Held by the one request that changes the egress.
    private readonly SemaphoreSlim _egressTurn = new(1, 1);

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
            await _egressTurn.WaitAsync(cancellationToken);
            try
            {
                MustNotEnd();
                await ChangeEgressAsync(egress);
            }
            finally
            {
                _egressTurn.Release();
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

    /// <summary>Completes when no request changes the egress. Once the sandbox has begun to end, or its server to stop, none begins after
    /// that: the slot may then be given away.</summary>
    internal async Task WhenEgressIsSetAsync()
    {
        await _egressTurn.WaitAsync(CancellationToken.None);
        _egressTurn.Release();
    }

    // A server that dies at any step leaves a record that gives no more than the last answer said, or than an unanswered request asked
    // for: its successor sets the rules that the record names. To take the egress away, the record comes first, so that what was begun
    // holds also after a crash. To give it, the rules come first: when one of the two steps fails, the record never had it.
    private async Task ChangeEgressAsync(Egress egress)
    {
        if (egress == Egress.None)
        {
            RecordEgress(egress);
            await ChangeRulesAsync(egress);
            return;
        }

        await ChangeRulesAsync(egress);
        try
        {
            RecordEgress(egress);
        }
        catch
        {
            await ChangeRulesAsync(Claim.Egress);
            throw;
        }
    }

    private void RecordEgress(Egress egress)
    {
        var claim = Claim with { Egress = egress };
        try
        {
            MicroVm.RecordClaim(claim);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // A record that is gone belongs to a sandbox that ends.
            MustNotEnd();
            throw new PandoraException(PandoraError.HostFull, "the server could not record what the sandbox may reach", innerException: e)
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
