using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Linux;

namespace Pandora.Engine.Recovery;

/// <summary>Removes from the host what has this instance's id in its name and belongs to no microVM that lives.</summary>
/// <param name="names">Names on the host.</param>
/// <param name="cgroups">Where the VMMs' cgroups are.</param>
/// <param name="removeOfVmm">Removes what VMMs left, but for that of the machines with some ids.</param>
/// <param name="time">For limits.</param>
/// <param name="logger">Where it is told what could not be removed.</param>
internal sealed partial class OrphanCleanup(
    HostNames names, CgroupTree cgroups, Action<IReadOnlySet<string>> removeOfVmm, TimeProvider time, ILogger logger)
{
    /// <summary>Undoes one microVM that nobody holds: its processes now, the rest with <see cref="RemoveAsync"/>.</summary>
    public Task KillAsync(FoundRecord found) => Orphans.KillAsync(found.Directory, found.Record, cgroups, time);

    /// <summary>
    /// Removes all but what the living own. What they have not been told of must have been killed. What cannot be removed is told and left,
    /// for it is no reason to leave the rest.
    /// </summary>
    /// <param name="living">Records of the living, and of those of which that is not decided yet.</param>
    /// <param name="network">Removes what is in the host's network, and tells of what it could not.</param>
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
                // Of a machine whose record is gone, its cgroup still knows the processes.
                await Orphans.KillAsync(cgroup, time);
                await CgroupTree.RemoveAsync(cgroup, time);
            });
        }

        await TryAsync("directories of VMMs", () =>
        {
            removeOfVmm(ids);
            return Task.CompletedTask;
        });
        var addresses = living.DistinctBy(r => r.Slot).ToDictionary(r => r.Slot, r => r.Address);
        await network(addresses, (what, e) => LogNotRemoved(what, e.Message));
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

    private async Task TryAsync(string what, Func<Task> remove)
    {
        try
        {
            await remove();
        }
        catch (Exception e)
        {
            LogNotRemoved(what, e.Message);
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{What} of an earlier server could not be removed: {Error}")]
    private partial void LogNotRemoved(string what, string error);
}
