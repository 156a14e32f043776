using Pandora.Linux;
using Pandora.Vmm.Host;

namespace Pandora.Engine.MicroVms;

/// <summary>Processes of microVMs whose server is dead, or that it never came to hold.</summary>
internal static class Orphans
{
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10);

    /// <summary>
    /// Kills all that runs for a microVM. Its record knows the pid once the VMM was started; before that the pid file does; the cgroup
    /// catches what died in between.
    /// </summary>
    /// <param name="directory">Its run directory, whose name is its id.</param>
    /// <param name="record">Its record, if it can be read.</param>
    /// <param name="cgroups">Where its cgroups are.</param>
    /// <param name="time">For the limit.</param>
    /// <exception cref="TimeoutException">The kernel did not let go of one within ten seconds.</exception>
    /// <exception cref="IOException">Whether one runs could not be seen.</exception>
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

    /// <summary>Kills all that is in a cgroup.</summary>
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
