using Microsoft.Extensions.Logging;
using Pandora.Engine.Networking;
using Pandora.Vmm.Firecracker;
using Pandora.Vmm.Linux;

namespace Pandora.Engine.MicroVms;

/// <summary>Undoes what a dead server of this data directory left behind, before anything new is made. The lock on the directory says that nobody else does.</summary>
public static partial class Recovery
{
    private static readonly TimeSpan KillLimit = TimeSpan.FromSeconds(10);

    /// <summary>Kills the VMMs, then removes cgroups, namespaces, interfaces, rules, disks and records.</summary>
    /// <returns>How many microVMs were found.</returns>
    public static async Task<int> RunAsync(Instance instance, EngineOptions options, CgroupTree cgroups, TimeProvider time, ILogger logger, CancellationToken cancellationToken)
    {
        var directories = Directory.GetDirectories(instance.RunDirectory);
        await Task.WhenAll(directories.Select(d => EndAsync(d, cgroups, time)));
        foreach (var path in cgroups.PathsFor("").Select(p => p.TrimEnd('/')))
        {
            foreach (var left in Directory.GetDirectories(path))
            {
                // Of a machine whose record is gone, its cgroup still knows the processes.
                foreach (var process in CgroupTree.ProcessesIn(left).Select(p => ProcessHandle.TryOpen(p)).OfType<ProcessHandle>())
                {
                    await KillAsync(process, time);
                }

                await CgroupTree.RemoveAsync(left, time);
            }
        }

        FirecrackerVmm.RemoveLeftovers(options.JailDir);
        await HostNetwork.RemoveLeftoversAsync(instance, options, cancellationToken);
        foreach (var disk in Directory.GetFiles(instance.DiskDirectory))
        {
            File.Delete(disk);
        }

        foreach (var directory in directories)
        {
            Directory.Delete(directory, recursive: true);
        }

        if (directories.Length > 0)
        {
            LogRecovered(logger, directories.Length);
        }

        return directories.Length;
    }

    // The record knows the pid once the VMM was started; before that the pid file does; the cgroup catches what died in between.
    private static async Task EndAsync(string directory, CgroupTree cgroups, TimeProvider time)
    {
        var id = Path.GetFileName(directory);
        var recorded = MicroVmRecord.TryRead(directory)?.Vmm is { } vmm ? ProcessHandle.TryOpen(vmm.Pid, vmm.StartTime) : null;
        var processes = new[] { recorded, VmmProcess.Find(directory, id) }.OfType<ProcessHandle>()
            .Concat(cgroups.PathsFor(id).SelectMany(CgroupTree.ProcessesIn).Distinct().Select(p => ProcessHandle.TryOpen(p)).OfType<ProcessHandle>());
        foreach (var process in processes)
        {
            await KillAsync(process, time);
        }
    }

    private static async Task KillAsync(ProcessHandle process, TimeProvider time)
    {
        process.Kill();
        await process.Exited.WaitAsync(KillLimit, time);
        process.Dispose();
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The last server of this data directory did not shut down: {Count} microVMs of it and all they held were removed")]
    private static partial void LogRecovered(ILogger logger, int count);
}
