using System.Diagnostics.CodeAnalysis;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Recovery;
using Pandora.Engine.Sandboxes;

namespace Pandora.Engine.Node;

/// <summary>Recovers the microVMs of an earlier server, and accepts clients.</summary>
public sealed partial class PandoraEngine
{
    /// <summary>Adopts the living microVMs of an earlier server, cleans up the others, starts the pools and accepts clients.</summary>
    public Task RecoverAsync() => _recovering = RecoverAsync(_stopping.Token);

    private async Task RecoverAsync(CancellationToken cancellationToken)
    {
        // The server answers requests already: this work must not block their threads.
        await Task.Yield();
        var recovery = new MicroVmRecovery(_parts.Metrics, _parts.Time, _parts.Loggers.CreateLogger<MicroVmRecovery>());
        var undecided = _found.Where(f => f.Problem is null).ToList();
        var unusable = _found.Where(f => f.Problem is not null).ToList();
        Sandboxes.Expect(undecided.Select(f => f.Record!));
        _parts.Launcher.Expect(undecided.Select(f => f.Record!));
        await recovery.UndoAsync(
            unusable, _parts.OrphanCleanup.KillAsync,
            (id, reason) => Sandboxes.RecordLost(id, reason, unusable.First(f => f.Id == id).Record));
        // Before new resources exist, so that no new resource is taken for an orphan.
        await _parts.OrphanCleanup.RemoveAsync([.. undecided.Select(f => f.Record!)], _parts.Network.RemoveOrphansAsync);
        cancellationToken.ThrowIfCancellationRequested();
        _parts.Network.Prepare();
        StartWatches();
        foreach (var name in _parts.Options.PooledTemplates
            .Concat(undecided.Where(f => f.Record!.Claim is null).Select(f => f.Record!.Template)).Distinct())
        {
            Pools.Of(name);
        }

        // From here on clients are served; a client that asks for an undecided sandbox must try again.
        Sandboxes.Open();
        await recovery.RunAsync(undecided, _parts.Launcher.AdoptAsync, Adopt, RecordLost, cancellationToken);
        _found = [];

        void RecordLost(string id, string reason)
        {
            var record = undecided.First(f => f.Id == id).Record!;
            if (record.Claim is null)
            {
                Pools.Of(record.Template).ExpectOneLess();
            }

            Sandboxes.RecordLost(id, reason, record);
        }
    }

    private void Adopt(MicroVm microVm)
    {
        if (microVm.Claim is not { } claim)
        {
            Pools.Of(microVm.Template).Adopt(microVm);
            return;
        }

        if (claim.EgressPolicy.Limit(_parts.Options.Egress) is var limited && limited != claim.EgressPolicy)
        {
            // Its slot already has the rules of the limit.
            microVm.RecordClaim(claim with { EgressPolicy = limited });
        }

        Sandboxes.Adopt(microVm);
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "_undo disposes each watch when the node stops")]
    private void StartWatches()
    {
        var (time, loggers) = (_parts.WatchTime, _parts.Loggers);
        var audit = new HostAudit(_parts.Options, time) { Live = _parts.Live, Network = _parts.Network };
        _undo.Push(new LeakWatch(audit, _parts.Live, _parts.Metrics.Meter, time, loggers.CreateLogger<LeakWatch>()).DisposeAsync);
        _undo.Push(new DiskWatch(_parts.Options, _parts.Room, Sandboxes, time, loggers.CreateLogger<DiskWatch>()).DisposeAsync);
        _undo.Push(new Reaper(Sandboxes, time, loggers.CreateLogger<Reaper>()).DisposeAsync);
        _undo.Push(new GuestWatch(Sandboxes, time, loggers.CreateLogger<GuestWatch>()).DisposeAsync);
        _undo.Push(new UsageWatch(Sandboxes, time, loggers.CreateLogger<UsageWatch>()).DisposeAsync);
    }
}
