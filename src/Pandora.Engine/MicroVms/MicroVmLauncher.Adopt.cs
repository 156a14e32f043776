using Pandora.Engine.Guest;
using Pandora.Engine.Networking;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>Takes over what an earlier server of this data directory started.</summary>
public sealed partial class MicroVmLauncher
{
    /// <summary>Takes hold of a microVM whose VMM lives and whose guest answers. Commands that the old server had running in it are killed: nobody waits for them any more.</summary>
    /// <param name="record">Its record; its slot is reserved.</param>
    /// <param name="limit">Ends the wait for its guest, and its life.</param>
    /// <param name="stopping">Ends the wait and leaves it as it is.</param>
    /// <exception cref="VmmException">It cannot be taken over, and all of it has been undone; the message says why.</exception>
    public async Task<MicroVm> AdoptAsync(MicroVmRecord record, CancellationToken limit, CancellationToken stopping)
    {
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit, stopping);
        var boot = NewBoot(record.Id, template: null);
        boot.Record = record;
        boot.Slot = NetworkSlot.At(record.Slot, instance, network.Range);
        HoldSlot(boot);
        HoldFiles(boot);
        boot.Teardown.Push(
            HostResource.OfProcess(record.Vmm!.Pid, record.Vmm.StartTime),
            () => boot.Machine?.DisposeAsync() ?? new ValueTask(Orphans.KillAsync(boot.Directory, record, cgroups, time)));
        try
        {
            boot.Machine = await vmm.AttachAsync(record.Vmm, linked.Token) ?? throw new VmmException("its VMM no longer runs or does not answer");
            if (record.HasAgent)
            {
                HoldAgent(boot);
            }

            await ReachGuestAsync(boot, Convert.FromBase64String(record.HostKey), isTakenOver: true, linked.Token);
            return new MicroVm(record, boot.Directory, boot.Slot, boot.Machine, boot.Guest!, boot.Teardown) { Agent = boot.Agent };
        }
        catch (Exception e) when (!stopping.IsCancellationRequested)
        {
            await boot.Teardown.CompleteAsync();
            throw new VmmException(e is VmmException ? e.Message : limit.IsCancellationRequested ? "its guest did not answer in time" : $"its guest could not be reached: {e.Message}", e);
        }
    }
}
