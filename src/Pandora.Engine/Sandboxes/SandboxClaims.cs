using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;

namespace Pandora.Engine.Sandboxes;

/// <summary>Claims microVMs for clients: takes one from its template's pool, writes down whose it is, and sets what it may reach.</summary>
internal sealed partial class SandboxClaims(
    EngineOptions options, WarmPools pools, IHostNetwork network, DiskRoom room, SandboxCount count, TimeProvider time, ILogger logger)
{
    /// <summary>Claims one, which is counted from then on.</summary>
    /// <exception cref="PandoraException">There are too many sandboxes, none became ready in time, or the host may hand none out. Nothing
    /// is left half made.</exception>
    public async Task<ClaimedMicroVm> ClaimAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        var name = request.Template ?? EngineOptions.DefaultTemplate;
        var pool = pools.Find(name)
            ?? throw PandoraException.Invalid(
                "template", $"there is no template '{name}'", hint: "'./pandora template ls' lists the templates");
        await MustBeClaimableAsync(cancellationToken);
        // Told at once, and not after a wait for what it cannot have.
        count.MustHaveRoom();
        var claimed = await pool.ClaimAsync(TimeSpan.FromSeconds(options.AcquireTimeout), cancellationToken);
        var isClaimed = false;
        try
        {
            if (!claimed.IsWarm)
            {
                // Much may have changed while it waited.
                await MustBeClaimableAsync(cancellationToken);
            }

            // Not before it waited: those that wait have a limit of their own, the pool's, and are no sandboxes yet.
            count.Claim();
            isClaimed = true;
            var claim = new ClaimRecord(
                request.IdleTimeout ?? options.IdleTimeout, request.Egress ?? options.DefaultEgress,
                request.Metadata ?? new Dictionary<string, string>(), time.GetUtcNow(), request.IdempotencyKey)
            {
                RequestHash = request.IdempotencyKey is null ? null : request.Hash(),
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
            // Nothing half made: the count is what it was, and what was taken goes to the next in line, or is ended where it may bear a
            // claim.
            if (isClaimed)
            {
                count.Remove();
            }

            if (isClaimed || !pool.Return(claimed.MicroVm))
            {
                _ = claimed.MicroVm.Teardown.CompleteAsync();
            }

            if (e is IOException)
            {
                LogNotWritten(e);
                throw new PandoraException(PandoraError.HostFull, "the server could not write the claim down", innerException: e)
                {
                    Hint = "see that the run directory (PANDORA_RUN_DIR) is there and has room",
                };
            }

            throw;
        }
    }

    private ValueTask MustBeClaimableAsync(CancellationToken cancellationToken)
    {
        room.Ensure();
        return network.EnsureAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A claim could not be written down")]
    private partial void LogNotWritten(Exception exception);
}
