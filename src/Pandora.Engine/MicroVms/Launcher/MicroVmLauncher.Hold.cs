using Pandora.Engine.Guests;
using Pandora.Vmm;
using Pandora.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>Pushes the teardown steps for each resource of a microVM, whether it was just acquired or is adopted.</summary>
internal sealed partial class MicroVmLauncher
{
    private void HoldSlot(Boot boot)
    {
        var slot = boot.Slot!;
        live.Set(boot.Id, slot.Index, boot.File);
        // Pushed first, so that it runs last: the slot's number is free again only when everything that used it is gone.
        boot.Teardown.Push(new HostResource(ResourceKind.Slot, $"{slot.Index}"), () =>
        {
            if (boot.Machine is { IsRunning: true } machine)
            {
                // The next start frees the slot. The part of the budget is free as soon as the VMM has ended.
                _ = machine.Exited.ContinueWith(_ => boot.Hold?.Release(), TaskScheduler.Default);
                throw new InvalidOperationException("its VMM still runs, so the slot is not freed");
            }

            // The VMM has ended, so that its memory is free.
            boot.Hold?.Release();
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
            // The end of a machine and a failed start remove it, but nothing does when a machine dies before it can be adopted.
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
        boot.Teardown.Push(new HostResource(ResourceKind.Connection, $"guest {boot.Slot!.Address}"), () =>
        {
            // Not awaited: an orderly close waits for a guest that may be dead or hostile, and the VMM's end closes the connection anyway.
            _ = guest.DisposeAsync().AsTask();
            return ValueTask.CompletedTask;
        });
    }
}
