using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;

namespace Pandora.Engine.Sandboxes;

/// <summary>Claims microVMs for clients: takes one from its template's pool, writes the claim to its record, and sets its egress.</summary>
internal sealed partial class SandboxClaims(
    EngineOptions options, WarmPools pools, IHostNetwork network, DiskRoom room, SandboxCount count, TimeProvider time, ILogger logger)
{
    private const long MiB = 1024 * 1024;

    /// <summary>Claims a microVM, and counts it as a sandbox.</summary>
    /// <exception cref="PandoraException">There are too many sandboxes, no microVM became ready in time, or the host may hand none out. The
    /// claim is undone.</exception>
    public async Task<ClaimedMicroVm> ClaimAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        var name = request.Template ?? EngineOptions.DefaultTemplate;
        // The lease keeps the pool of a size until the claim has ended.
        using var lease = pools.Find(name, request.Size)
            ?? throw PandoraException.Invalid(
                "template", $"there is no template '{name}'", hint: "'./pandora template ls' lists the templates");
        await MustBeClaimableAsync(lease.IsVariant ? lease.Size!.DiskMib * MiB : 0, cancellationToken);
        // Before the wait: a client over the limit is answered at once.
        count.MustHaveRoom();
        var claimed = await lease.ClaimAsync(TimeSpan.FromSeconds(options.AcquireTimeout), cancellationToken);
        var isClaimed = false;
        try
        {
            if (!claimed.IsWarm)
            {
                // The disk and the network may have changed during the wait.
                await MustBeClaimableAsync(growth: 0, cancellationToken);
            }

            // After the wait: a claim that waits is no sandbox yet, and the pool limits how many wait.
            count.Claim();
            isClaimed = true;
            var claim = new ClaimRecord(
                request.IdleTimeout ?? options.IdleTimeout, request.Egress ?? options.DefaultEgress,
                request.Metadata ?? new Dictionary<string, string>(), time.GetUtcNow(), request.IdempotencyKey)
            {
                RequestHash = request.IdempotencyKey is null ? null : request.Hash(),
                Project = request.Project,
            };
            claimed.MicroVm.RecordClaim(claim);
            if (claim.Egress != options.DefaultEgress)
            {
                await network.SetEgressAsync(claimed.MicroVm.Slot, claim.Egress);
            }

            return claimed;
        }
        catch (Exception e)
        {
            // Undo the claim: reset the count, and return the microVM to the pool. A microVM that may bear a claim is ended instead.
            if (isClaimed)
            {
                count.Remove();
            }

            if (isClaimed || !lease.Pool.Return(claimed.MicroVm))
            {
                _ = claimed.MicroVm.Teardown.CompleteAsync();
            }

            if (e is IOException)
            {
                LogNotRecorded(e);
                throw new PandoraException(PandoraError.HostFull, "the server could not record the claim", innerException: e)
                {
                    Hint = "check that the run directory (PANDORA_RUN_DIR) exists and has room",
                };
            }

            throw;
        }
    }

    private ValueTask MustBeClaimableAsync(long growth, CancellationToken cancellationToken)
    {
        room.Ensure(growth);
        return network.EnsureAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A claim could not be recorded")]
    private partial void LogNotRecorded(Exception exception);
}
