using Microsoft.Extensions.Logging;
using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;
using Pandora.Engine.Projects;

namespace Pandora.Engine.Sandboxes;

/// <summary>Claims microVMs for clients: takes one from its template's pool, writes the claim to its record, and sets its egress.</summary>
internal sealed partial class SandboxClaims(
    EngineOptions options, WarmPools pools, IHostNetwork network, DiskRoom room, Admissions admissions, FindProject projects,
    TimeProvider time, ILogger logger)
{
    private const long MiB = 1024 * 1024;

    /// <summary>Claims a microVM, and counts it as a sandbox.</summary>
    /// <exception cref="PandoraException">There are too many sandboxes, no microVM became ready in time, or the host may hand none out. The
    /// claim is undone.</exception>
    public async Task<ClaimedMicroVm> ClaimAsync(SandboxRequest request, CancellationToken cancellationToken)
    {
        var name = request.Template ?? EngineOptions.DefaultTemplate;
        // The lease keeps the pool of a size until the claim has ended.
        using var lease = pools.Find(name, request.Size, request.Project)
            ?? throw PandoraException.Invalid(
                "template", $"there is no template '{name}'", hint: "'./pandora template ls' lists the templates");
        await MustBeClaimableAsync(lease.IsVariant ? lease.Size!.DiskMib * MiB : 0, cancellationToken);
        // Before the wait: a client over a bound is answered at once.
        var reserved = lease.Size ?? MicroVmSize.OfUnknown;
        admissions.Reserve(request.Project, reserved);
        try
        {
            var claimed = await lease.ClaimAsync(request.Project, TimeSpan.FromSeconds(options.AcquireTimeout), cancellationToken);
            return await AdmitAsync(request, claimed, reserved, lease.Pool, cancellationToken);
        }
        catch
        {
            admissions.Release(request.Project, reserved);
            throw;
        }
    }

    private async Task<ClaimedMicroVm> AdmitAsync(
        SandboxRequest request, ClaimedMicroVm claimed, MicroVmSize reserved, WarmPool pool, CancellationToken cancellationToken)
    {
        var size = claimed.MicroVm.Size ?? MicroVmSize.OfUnknown;
        var isClaimed = false;
        try
        {
            if (!claimed.IsWarm)
            {
                // The disk and the network may have changed during the wait.
                await MustBeClaimableAsync(growth: 0, cancellationToken);
            }

            // After the wait: a claim that waits is no sandbox yet, and the pool limits how many wait.
            admissions.Admit(size);
            isClaimed = true;
            var claim = new ClaimRecord(
                request.IdleTimeout ?? (request.EndsAfter is null ? options.IdleTimeout : SandboxRequest.NoIdleTimeout),
                request.Egress ?? UsualEgress(request.Project),
                request.Metadata ?? new Dictionary<string, string>(), time.GetUtcNow(), request.IdempotencyKey)
            {
                RequestHash = request.IdempotencyKey is null ? null : request.Hash(),
                Project = request.Project,
                PublicPorts = request.PublicPorts is { Count: > 0 } ports ? [.. ports.Distinct().Order()] : null,
                SshKeys = request.SshKeys is { Count: > 0 } keys ? [.. keys] : null,
                EndsAt = time.GetUtcNow() + request.EndsAfter,
                Annotations = request.Annotations is { Count: > 0 } annotations ? annotations : null,
                RecordsUsage = request.RecordsUsage,
            };
            if (request.EgressRules is { } rules)
            {
                claim = claim with { EgressPolicy = rules };
            }

            claimed.MicroVm.RecordClaim(claim);
            if (claim.EgressPolicy is var egress && egress != new EgressPolicy(options.DefaultEgress))
            {
                await network.SetEgressAsync(claimed.MicroVm.Slot, egress);
            }

            // A warm microVM of an earlier build of the template may have another size.
            admissions.Resize(request.Project, reserved, size);
            return claimed;
        }
        catch (Exception e)
        {
            // Undo the claim: reset the count, and return the microVM to the pool. A microVM that may bear a claim is ended instead.
            if (isClaimed)
            {
                admissions.Dismiss(size);
            }

            if (isClaimed || !pool.Return(claimed.MicroVm))
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

    private Egress UsualEgress(string project) =>
        projects(project).Egress == Egress.None ? Egress.None : options.DefaultEgress;

    private ValueTask MustBeClaimableAsync(long growth, CancellationToken cancellationToken)
    {
        room.Ensure(growth);
        return network.EnsureAsync(cancellationToken);
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A claim could not be recorded")]
    private partial void LogNotRecorded(Exception exception);
}
