using Pandora.Engine.Guests;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>How each thing that a microVM owns is undone, whether it was just made or is taken over.</summary>
internal sealed partial class MicroVmLauncher
{
    private void HoldSlot(Boot boot)
    {
        var slot = boot.Slot!;
        live.Set(boot.Id, slot.Index, boot.File);
        // Its number is free again only when everything that used it is gone: this waits behind all the rest.
        boot.Teardown.Push(new HostResource(ResourceKind.Slot, $"{slot.Index}"), () =>
        {
            if (boot.Machine is { IsRunning: true })
            {
                throw new InvalidOperationException("its VMM still runs, so the slot is not used again");
            }

            live.Remove(boot.Id);
            network.Free(slot);
            return ValueTask.CompletedTask;
        }, canWait: true);
        foreach (var part in network.PartsOf(slot))
        {
            boot.Teardown.Push(part.Resource, part.Undo, canWait: true, part.Exists);
        }
    }

    private void HoldFiles(Boot boot)
    {
        boot.Teardown.Push(new HostResource(ResourceKind.Directory, boot.Directory), () =>
        {
            boot.File?.Close();
            Directory.Delete(boot.Directory, recursive: true);
            return ValueTask.CompletedTask;
        });
        boot.Teardown.Push(new HostResource(ResourceKind.File, boot.DiskPath), () =>
        {
            File.Delete(boot.DiskPath);
            return ValueTask.CompletedTask;
        });
        foreach (var made in vmm.DirectoriesOf(boot.Id))
        {
            // The machine's own end has removed it, or a start that failed, but not that of one which died before it could be taken over.
            boot.Teardown.Push(new HostResource(ResourceKind.Directory, made), () =>
            {
                vmm.RemoveDirectories(boot.Id);
                return ValueTask.CompletedTask;
            });
        }

        foreach (var path in cgroups.PathsFor(boot.Id))
        {
            boot.Teardown.Push(new HostResource(ResourceKind.Cgroup, path), () => new ValueTask(CgroupTree.RemoveAsync(path, time)));
        }
    }

    private void HoldMachine(Boot boot, IVirtualMachine machine)
    {
        boot.Machine = machine;
        boot.Teardown.Push(HostResource.OfProcess(machine.Handle.Pid, machine.Handle.StartTime), machine.DisposeAsync);
        HoldAgent(boot);
        boot.File!.Write(r => r with { Vmm = machine.Handle, Resources = boot.Teardown.Resources });
    }

    private void HoldAgent(Boot boot)
    {
        boot.Agent = new GuestAgent(boot.Machine!, time);
        boot.Teardown.Push(new HostResource(ResourceKind.Connection, $"agent {boot.Id}"), boot.Agent.DisposeAsync);
    }

    private static void HoldGuest(Boot boot, IGuest guest)
    {
        boot.Guest = guest;
        boot.Teardown.Push(new HostResource(ResourceKind.Connection, $"ssh {boot.Slot!.Address}"), () =>
        {
            // Closing politely waits for a guest that may be dead or hostile, and the VMM's end closes it anyway.
            _ = guest.DisposeAsync().AsTask();
            return ValueTask.CompletedTask;
        });
    }
}
