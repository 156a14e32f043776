using System.Collections.Concurrent;
using Pandora.Engine.Admission;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>Adopts the microVMs of an earlier server of this data directory.</summary>
internal sealed partial class MicroVmLauncher
{
    /// <summary>
    /// Most logins to guests at the same time, because each costs processor time. A login that takes longer than <see cref="PermitLimit"/>
    /// releases its permit before it ends.
    /// </summary>
    private const int AdoptionPermitCount = 16;
    private static readonly TimeSpan AdoptLimit = TimeSpan.FromSeconds(15), PermitLimit = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan RoomPause = TimeSpan.FromSeconds(1);
    private readonly SemaphoreSlim _adoptionPermits = new(AdoptionPermitCount);
    private readonly ConcurrentDictionary<string, HostBudget.Hold> _expected = new();

    /// <summary>
    /// Counts the microVMs that are to be adopted against the host's budget, so that no pool warms up what they have already.
    /// </summary>
    public void Expect(IEnumerable<MicroVmRecord> records)
    {
        foreach (var record in records)
        {
            _expected[record.Id] = TakeExisting(record);
        }
    }

    private HostBudget.Hold TakeExisting(MicroVmRecord record) => budget.TakeExisting(record.Size ?? MicroVmSize.OfUnknown);

    /// <summary>
    /// Adopts a microVM whose VMM runs and whose guest answers: (1) attach to the VMM, (2) probe the agent, which is cheap, so that all
    /// agents are probed at once, (3) connect for commands. Commands that the old server was running in the guest are killed, because
    /// no client waits for them any more.
    /// </summary>
    /// <param name="record">The microVM's record; its slot is reserved.</param>
    /// <param name="stopping">Ends the wait, and leaves the microVM running.</param>
    /// <returns>The microVM, or the reason why it cannot be adopted; in both cases with its teardown.</returns>
    public async Task<Adoption> AdoptAsync(MicroVmRecord record, CancellationToken stopping)
    {
        var boot = NewBoot(record.Id, template: null);
        boot.File = new MicroVmFile(boot.Directory, record);
        boot.Slot = network.SlotAt(record.Slot);
        boot.Hold = _expected.TryRemove(record.Id, out var hold) ? hold : TakeExisting(record);
        HoldSlot(boot);
        HoldFiles(boot);
        boot.Teardown.Push(
            HostResource.OfProcess(record.Vmm!.Pid, record.Vmm.StartTime),
            () => boot.Machine?.DisposeAsync() ?? new ValueTask(Orphans.KillAsync(boot.Directory, record, cgroups, time)));
        try
        {
            await WithinAsync(AdoptLimit, async token =>
                boot.Machine = await vmm.AttachAsync(record.Vmm, ChannelsOf(record.AgentVersion), token)
                    ?? throw new VmmException("its VMM no longer runs or does not answer"), stopping);
            await WaitForRoomAsync(boot.Machine!, stopping);
            await WithinAsync(AdoptLimit, async token =>
            {
                if (record.HasAgent)
                {
                    HoldAgent(boot);
                    await boot.Agent!.PingAsync(ReadOnlyMemory<byte>.Empty, token);
                }
            }, stopping);
            await LogInAsync(boot, stopping);
            return new Adoption(
                new MicroVm(boot.File, boot.Slot, boot.Machine!, boot.Guest!, boot.Teardown) { Agent = boot.Agent }, null, boot.Teardown);
        }
        catch (Exception e) when (!stopping.IsCancellationRequested)
        {
            var reason = e switch
            {
                VmmException => e.Message,
                OperationCanceledException => "its guest did not answer in time",
                _ => $"its guest could not be reached: {e.Message}",
            };
            return new Adoption(null, reason, boot.Teardown);
        }
    }

    // A guest that waits for room on the host's disk does not answer, but loses no data.
    private async Task WaitForRoomAsync(IVirtualMachine machine, CancellationToken stopping)
    {
        var start = time.GetTimestamp();
        while (machine.IsStalled)
        {
            if (time.GetElapsedTime(start).TotalSeconds >= options.DiskWait)
            {
                throw new VmmException($"the host's disk had no room for its data for {options.DiskWait:0.#} s");
            }

            await WithinAsync(AdoptLimit, machine.ContinueAsync, stopping);
            await Task.Delay(RoomPause, time, stopping);
        }
    }

    private async Task LogInAsync(Boot boot, CancellationToken stopping)
    {
        await _adoptionPermits.WaitAsync(stopping);
        var isHeld = 1;
        void ReleasePermit()
        {
            if (Interlocked.Exchange(ref isHeld, 0) == 1)
            {
                _adoptionPermits.Release();
            }
        }

        try
        {
            await using var timer = time.CreateTimer(_ => ReleasePermit(), null, PermitLimit, Timeout.InfiniteTimeSpan);
            await WithinAsync(AdoptLimit, token => ConnectGuestAsync(boot, isAdopted: true, token), stopping);
        }
        finally
        {
            ReleasePermit();
        }
    }

    private async Task WithinAsync(TimeSpan duration, Func<CancellationToken, Task> action, CancellationToken stopping)
    {
        using var limit = new CancellationTokenSource(duration, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, stopping);
        await action(linked.Token);
    }
}

/// <summary>The result of adopting a microVM.</summary>
/// <param name="MicroVm">The microVM; null when it could not be adopted.</param>
/// <param name="Reason">Why it could not be adopted; null when it was.</param>
/// <param name="Teardown">Cleans up the microVM.</param>
internal sealed record Adoption(MicroVm? MicroVm, string? Reason, Teardown Teardown);
