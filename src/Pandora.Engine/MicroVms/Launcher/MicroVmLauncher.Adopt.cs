using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>Takes over what an earlier server of this data directory started.</summary>
internal sealed partial class MicroVmLauncher
{
    /// <summary>
    /// Guests that are logged in to at the same time; each costs processor time. One that does not answer gives its place on after a while.
    /// </summary>
    private const int AdoptPlaces = 16;
    private static readonly TimeSpan AdoptLimit = TimeSpan.FromSeconds(15), PlaceLimit = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan RoomPause = TimeSpan.FromSeconds(1);
    private readonly SemaphoreSlim _adoptionPermits = new(AdoptPlaces);

    /// <summary>
    /// Takes hold of a microVM whose VMM lives and whose guest answers: (1) the VMM, (2) a sign of life of the guest, which costs next to
    /// nothing and for which all are asked at once, (3) its SSH server.
    /// Commands that the old server had running in it are killed: nobody waits for them any more.
    /// </summary>
    /// <param name="record">Its record; its slot is reserved.</param>
    /// <param name="stopping">Ends the wait and leaves it as it is.</param>
    /// <returns>The microVM, or why it cannot be taken over and how all of it is undone.</returns>
    public async Task<Adoption> AdoptAsync(MicroVmRecord record, CancellationToken stopping)
    {
        var boot = NewBoot(record.Id, template: null);
        boot.File = new MicroVmFile(boot.Directory, record);
        boot.Slot = network.SlotAt(record.Slot);
        HoldSlot(boot);
        HoldFiles(boot);
        boot.Teardown.Push(
            HostResource.OfProcess(record.Vmm!.Pid, record.Vmm.StartTime),
            () => boot.Machine?.DisposeAsync() ?? new ValueTask(Orphans.KillAsync(boot.Directory, record, cgroups, time)));
        try
        {
            await WithinAsync(AdoptLimit, async token =>
                boot.Machine = await vmm.AttachAsync(record.Vmm, Channel, token)
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
            await LogInAsync(boot, Convert.FromBase64String(record.HostKey), stopping);
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

    // Its guest does not answer while it waits for room on the host's disk, and loses nothing by it.
    private async Task WaitForRoomAsync(IVirtualMachine machine, CancellationToken stopping)
    {
        var start = time.GetTimestamp();
        while (machine.IsStalled)
        {
            if (time.GetElapsedTime(start).TotalSeconds >= options.DiskWait)
            {
                throw new VmmException($"the host's disk had no room for what it wrote for {options.DiskWait:0.#} s");
            }

            await WithinAsync(AdoptLimit, machine.ContinueAsync, stopping);
            await Task.Delay(RoomPause, time, stopping);
        }
    }

    private async Task LogInAsync(Boot boot, byte[] hostKey, CancellationToken stopping)
    {
        await _adoptionPermits.WaitAsync(stopping);
        var isHeld = 1;
        void GiveOn()
        {
            if (Interlocked.Exchange(ref isHeld, 0) == 1)
            {
                _adoptionPermits.Release();
            }
        }

        try
        {
            await using var timer = time.CreateTimer(_ => GiveOn(), null, PlaceLimit, Timeout.InfiniteTimeSpan);
            await WithinAsync(AdoptLimit, token => ConnectGuestAsync(boot, hostKey, isAdopted: true, token), stopping);
        }
        finally
        {
            GiveOn();
        }
    }

    private async Task WithinAsync(TimeSpan duration, Func<CancellationToken, Task> action, CancellationToken stopping)
    {
        using var limit = new CancellationTokenSource(duration, time);
        using var linked = CancellationTokenSource.CreateLinkedTokenSource(limit.Token, stopping);
        await action(linked.Token);
    }
}

/// <summary>What came of taking over a microVM.</summary>
/// <param name="MicroVm">The microVM; null when it could not be.</param>
/// <param name="Reason">Why it could not be.</param>
/// <param name="Teardown">Undoes it.</param>
internal sealed record Adoption(MicroVm? MicroVm, string? Reason, Teardown Teardown);
