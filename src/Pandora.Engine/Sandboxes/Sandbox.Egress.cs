using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

// What the guest may reach.
public sealed partial class Sandbox
{
    // Held by the one request that changes the claim.
    private readonly SemaphoreSlim _changeTurn = new(1, 1);

    /// <summary>Sets what the guest may reach, without ranges: <see cref="SetEgressAsync(EgressPolicy, CancellationToken)"/>.</summary>
    public Task SetEgressAsync(Egress egress, CancellationToken cancellationToken) =>
        SetEgressAsync(new EgressPolicy(egress), cancellationToken);

    /// <summary>
    /// Sets what the guest may reach. A guest that loses any of it loses all connections that it has open, also those that would still be
    /// allowed. Requests take turns, and the last one counts. It is an activity that worked, and does not involve the guest.
    /// </summary>
    /// <param name="policy">What the guest may reach. At most <see cref="EgressPolicy.MostRanges"/> ranges.</param>
    /// <param name="cancellationToken">Ends the wait for other requests. A change that has begun is finished.</param>
    /// <exception cref="PandoraException">There are too many ranges, the server or the project forbids it, the sandbox has ended, the
    /// server stops, or the record or the rules could not be written. Once they can be written, a sandbox that was only to get more has
    /// what it had, and one that was to lose something has what was asked for.</exception>
    public async Task SetEgressAsync(EgressPolicy policy, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(policy);
        var line = Audit(AuditOperation.Egress);
        line.Egress = policy.Default;
        try
        {
            RequestLimits.CheckEgress(policy, _node.Options, _node.Projects(Project), "ask for 'none'");
            using var lease = Use();
            await _changeTurn.WaitAsync(cancellationToken);
            try
            {
                MustNotEnd();
                await ChangeEgressAsync(policy);
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
    // for: its successor sets the rules that the record names. To take something away, also where the change gives something else, the
    // record comes first, so that what was begun holds also after a crash. To give only, the rules come first: when one of the two steps
    // fails, the record never had it. The rules change in one transaction, so the guest has the one or the other, never both.
    private async Task ChangeEgressAsync(EgressPolicy policy)
    {
        var had = Claim.EgressPolicy;
        if (policy == had || !policy.Includes(had))
        {
            Record(Claim with { EgressPolicy = policy });
            await ChangeRulesAsync(policy);
            return;
        }

        await ChangeRulesAsync(policy);
        try
        {
            Record(Claim with { EgressPolicy = policy });
        }
        catch
        {
            await ChangeRulesAsync(had);
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

        var isOtherEnd = claim.EndsAt != _claim.EndsAt;
        _claim = claim;
        if (isOtherEnd)
        {
            ArmEnd();
        }
    }

    private async Task ChangeRulesAsync(EgressPolicy policy)
    {
        try
        {
            await _node.Network.SetEgressAsync(MicroVm.Slot, policy);
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
