using Pandora.Engine.Networking;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>Removes from the host what has this instance's id in its name and belongs to no microVM that lives.</summary>
internal sealed class Leftovers(Instance instance, CgroupTree cgroups, string jailDirectory, TimeProvider time)
{
    /// <summary>Undoes one microVM that nobody holds: its processes now, the rest with <see cref="RemoveAsync"/>.</summary>
    public Task KillAsync(Found found) => Orphans.KillAsync(found.Directory, found.Record, cgroups, time);

    /// <summary>Removes all but what the living own. What they have not been told of must have been killed.</summary>
    public async Task RemoveAsync(IReadOnlyList<MicroVm> living)
    {
        var ids = living.Select(m => m.Id).ToHashSet();
        foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
        {
            foreach (var left in Directory.GetDirectories(path).Where(d => !ids.Contains(Path.GetFileName(d))))
            {
                // Of a machine whose record is gone, its cgroup still knows the processes.
                await Orphans.KillAsync(left, time);
                await CgroupTree.RemoveAsync(left, time);
            }
        }

        FirecrackerVmm.RemoveLeftovers(jailDirectory, ids);
        await HostNetwork.RemoveLeftoversAsync(instance, living.Select(m => m.Slot.Index).ToHashSet());
        foreach (var disk in Directory.GetFiles(instance.DiskDirectory).Where(f => !ids.Contains(Path.GetFileNameWithoutExtension(f))))
        {
            File.Delete(disk);
        }

        foreach (var directory in Directory.GetDirectories(instance.RunDirectory).Where(d => !ids.Contains(Path.GetFileName(d))))
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
