using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Linux;

namespace Pandora.Engine.Recovery;

/// <summary>Removes orphans: resources with this instance's id in their names that no living microVM owns.</summary>
/// <param name="names">Names on the host.</param>
/// <param name="cgroups">The cgroups of the instance.</param>
/// <param name="removeVmmOrphans">Removes the VMMs' directories of all machines except those with the given ids.</param>
/// <param name="time">The clock of limits.</param>
/// <param name="logger">Log of the resources that could not be removed.</param>
internal sealed partial class OrphanCleanup(
    HostNames names, CgroupTree cgroups, Action<IReadOnlySet<string>> removeVmmOrphans, TimeProvider time, ILogger logger)
{
    /// <summary>Kills the processes of an orphan microVM. <see cref="RemoveAsync"/> then removes its other resources.</summary>
    public Task KillAsync(FoundRecord found) => Orphans.KillAsync(found.Directory, found.Record, cgroups, time);

    /// <summary>
    /// Removes all resources that no living microVM owns. The processes of all other microVMs must have been killed before. A resource that
    /// cannot be removed is logged, and the others are removed all the same.
    /// </summary>
    /// <param name="living">Records of the living and of the undecided microVMs.</param>
    /// <param name="network">Removes the orphans in the host's network, and reports those that it could not remove.</param>
    public async Task RemoveAsync(
        IReadOnlyCollection<MicroVmRecord> living, Func<IReadOnlyDictionary<int, string>, Action<string, Exception>, Task> network)
    {
        var ids = living.Select(r => r.Id).ToHashSet();
        var orphanCgroups = cgroups
            .PathsFor("")
            .Select(p => p.TrimEnd('/'))
            .SelectMany(Directory.GetDirectories)
            .Where(d => !ids.Contains(Path.GetFileName(d)));
        foreach (var cgroup in orphanCgroups)
        {
            await TryAsync(cgroup, async () =>
            {
                // The cgroup still lists the processes of a machine whose record is gone.
                await Orphans.KillAsync(cgroup, time);
                await CgroupTree.RemoveAsync(cgroup, time);
            });
        }

        await TryAsync("directories of VMMs", () =>
        {
            removeVmmOrphans(ids);
            return Task.CompletedTask;
        });
        var addresses = living.DistinctBy(r => r.Slot).ToDictionary(r => r.Slot, r => r.Address);
        await network(addresses, (name, e) => LogNotRemoved(name, e.Message));
        var disks = Directory.GetFiles(names.DiskDirectory).Where(f => !ids.Contains(Path.GetFileNameWithoutExtension(f)));
        var runDirectories = Directory.GetDirectories(names.RunDirectory).Where(d => !ids.Contains(Path.GetFileName(d)));
        foreach (var path in disks.Concat(runDirectories))
        {
            await TryAsync(path, () =>
            {
                if (Directory.Exists(path))
                {
                    Directory.Delete(path, recursive: true);
                }
                else
                {
                    File.Delete(path);
                }

                return Task.CompletedTask;
            });
        }
    }

    private async Task TryAsync(string name, Func<Task> remove)
    {
        try
        {
            await remove();
        }
        catch (Exception e)
        {
            LogNotRemoved(name, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Name} of an earlier server could not be removed: {Error}")]
    private partial void LogNotRemoved(string name, string error);
}
