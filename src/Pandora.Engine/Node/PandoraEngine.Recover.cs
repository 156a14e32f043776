using Microsoft.Extensions.Logging;
using Pandora.Engine.Recovery;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Node;

/// <summary>Takes over what an earlier server left, and lets clients in.</summary>
public sealed partial class PandoraEngine
{
    private async Task RecoverAsync(CancellationToken cancellationToken)
    {
        // Requests are being served already: nothing here may hold up their threads.
        await Task.Yield();
        var recovery = new MicroVmRecovery(_metrics, _time, _loggers.CreateLogger<MicroVmRecovery>());
        var (undecided, condemned) = (_found.Where(f => f.Problem is null).ToList(), _found.Where(f => f.Problem is not null).ToList());
        Sandboxes.Expect(undecided.Select(f => f.Record!));
        await recovery.UndoAsync(condemned, _leftovers.KillAsync, Sandboxes.Lose);
        // Before anything new is made, so that nothing new can be taken for something left.
        await _leftovers.RemoveAsync([.. undecided.Select(f => f.Record!)]);
        cancellationToken.ThrowIfCancellationRequested();
        _slots.Prepare();
        _undo.Push(new LeakWatch(new HostAudit(_options, _time) { Live = _live, ListRules = _network.ListRules }, _live, _metrics.Meter, _time, _loggers.CreateLogger<LeakWatch>()).DisposeAsync);
        _undo.Push(new DiskWatch(_options, _room!, Sandboxes, _time, _loggers.CreateLogger<DiskWatch>()).DisposeAsync);
        _undo.Push(new Reaper(Sandboxes, _time, _loggers.CreateLogger<Reaper>()).DisposeAsync);
        _undo.Push(new GuestWatch(Sandboxes, _time, _loggers.CreateLogger<GuestWatch>()).DisposeAsync);
        foreach (var name in _options.PooledTemplates.Concat(undecided.Where(f => f.Record!.Claim is null).Select(f => f.Record!.Template))
            .Distinct())
        {
            MakePool(name);
        }

        // From here on clients are served; a client that asks for a sandbox that is not decided yet has to wait.
        Sandboxes.Open();
        await recovery.RunAsync(undecided, _launcher.AdoptAsync, Adopted, Lost, cancellationToken);
        _found = [];

        void Adopted(MicroVm microVm)
        {
            if (microVm.Claim is not { } claim)
            {
                MakePool(microVm.Template).Adopt(microVm);
                return;
            }

            if (_options.Limit(claim.Egress) != claim.Egress)
            {
                // Its slot has the ceiling's rules already.
                microVm.RecordClaim(claim with { Egress = _options.Limit(claim.Egress) });
            }

            Sandboxes.Adopt(microVm);
        }

        void Lost(string id, string reason)
        {
            var record = undecided.First(f => f.Id == id).Record!;
            if (record.Claim is null)
            {
                MakePool(record.Template).ExpectOneLess();
            }

            Sandboxes.Lose(id, reason);
        }
    }
}
