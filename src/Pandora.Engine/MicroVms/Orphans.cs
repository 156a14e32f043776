using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Engine.MicroVms;

/// <summary>Kills the processes of microVMs that no server holds: their server died, or had not yet recorded them.</summary>
internal static class Orphans
{
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Kills all processes of a microVM. The record has the pid of a VMM that has started, the pid file that of one that was starting, and
    /// the cgroup has the processes of a server that died between the two.
    /// </summary>
    /// <param name="directory">The microVM's run directory, whose name is the microVM's id.</param>
    /// <param name="record">The microVM's record, if it can be read.</param>
    /// <param name="cgroups">The cgroups of the instance.</param>
    /// <param name="time">The clock of the limit.</param>
    /// <exception cref="TimeoutException">The kernel did not end a process within ten seconds.</exception>
    /// <exception cref="IOException">The processes could not be read.</exception>
    public static async Task KillAsync(string directory, MicroVmRecord? record, CgroupTree cgroups, TimeProvider time)
    {
        var id = Path.GetFileName(directory);
        if (record?.Vmm is { } vmm && record.BootId == MicroVmRecord.HostBootId
            && ProcessHandle.TryOpen(vmm.Pid, vmm.StartTime) is { } recorded)
        {
            await KillAsync(recorded, time);
        }

        if (VmmProcess.Find(directory, id) is { } noted)
        {
            await KillAsync(noted, time);
        }

        foreach (var path in cgroups.PathsFor(id))
        {
            await KillAsync(path, time);
        }
    }

    /// <summary>Kills all processes in a cgroup.</summary>
    public static async Task KillAsync(string cgroup, TimeProvider time)
    {
        foreach (var process in ProcessHandle.OpenAll(CgroupTree.ProcessesIn(cgroup)))
        {
            await KillAsync(process, time);
        }
    }

    private static async Task KillAsync(ProcessHandle process, TimeProvider time)
    {
        using var held = process;
        process.Kill();
        await process.Exited.WaitAsync(KillLimit, time);
    }
}
