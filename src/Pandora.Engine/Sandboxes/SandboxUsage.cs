using Pandora.Agent.Protocol;

namespace Pandora.Engine.Sandboxes;

/// <summary>What a sandbox used at one moment, as its guest says. Sizes are bytes.</summary>
/// <param name="At">When.</param>
/// <param name="Cpus">Number of virtual CPUs.</param>
/// <param name="CpuPercent">How busy they were since the last time, or since the guest's start: 0 to 100 for all together.</param>
/// <param name="MemoryUsed">Memory in use, without what can be given back at once.</param>
/// <param name="MemoryTotal">Memory of the guest.</param>
/// <param name="MemoryCached">Memory that holds contents of files.</param>
/// <param name="DiskUsed">How much of the root filesystem is used.</param>
/// <param name="DiskTotal">Its size.</param>
public sealed record SandboxUsage(
    DateTimeOffset At, int Cpus, double CpuPercent, long MemoryUsed, long MemoryTotal, long MemoryCached, long DiskUsed, long DiskTotal);

// What the sandbox used.
public sealed partial class Sandbox
{
    /// <summary>Most moments that are kept: an hour at one each five seconds.</summary>
    public const int MaxUsage = 720;

    private readonly Queue<SandboxUsage> _usage = [];
    private UsageBody _lastUsage;

    /// <summary>What it used, oldest first; empty unless its creator asked for a record.</summary>
    public IReadOnlyList<SandboxUsage> Usage
    {
        get
        {
            lock (_usage)
            {
                return [.. _usage];
            }
        }
    }

    /// <summary>Whether there is a record of what it used.</summary>
    internal bool HasUsage
    {
        get
        {
            lock (_usage)
            {
                return _usage.Count > 0;
            }
        }
    }

    /// <summary>Asks the guest what it uses, and keeps the answer. A guest of an older Pandora does not know.</summary>
    /// <exception cref="Vmm.VmmException">The guest does not answer.</exception>
    internal async Task RecordUsageAsync(CancellationToken cancellationToken)
    {
        if (await MicroVm.Agent!.ReadUsageAsync(cancellationToken) is not { } now)
        {
            return;
        }

        lock (_usage)
        {
            var (all, busy) = (now.AllTicks - _lastUsage.AllTicks, now.BusyTicks - _lastUsage.BusyTicks);
            var percent = all > 0 ? Math.Clamp(100.0 * busy / all, 0, 100) : 0;
            _lastUsage = now;
            _usage.Enqueue(new SandboxUsage(
                _time.GetUtcNow(), (int)now.Cpus, percent, now.MemoryUsed, now.MemoryTotal, now.MemoryCached, now.DiskUsed,
                now.DiskTotal));
            while (_usage.Count > MaxUsage)
            {
                _usage.Dequeue();
            }
        }
    }
}
