using System.Diagnostics.Metrics;
using Pandora.Engine.Admission;
using Pandora.Engine.Networking;
using Pandora.Engine.Pools;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Vmm;

namespace Pandora.Engine.Node;

/// <summary>The gauges of a node. Each scrape reads the current values.</summary>
internal sealed class EngineGauges
{
    private const long MiB = 1024 * 1024;
    private readonly WarmPools _pools;
    private readonly SandboxRegistry _sandboxes;
    private readonly Func<(double CpuSeconds, long MemoryBytes)?> _vmmUsage;
    private readonly DriveInfo _disk;

    public EngineGauges(
        Meter meter, EngineOptions options, string instanceId, VmmCapabilities vmm, DiskRoom room, SandboxRegistry sandboxes,
        WarmPools pools, HostBudget budget, IHostNetwork network, Func<(double CpuSeconds, long MemoryBytes)?> vmmUsage)
    {
        _pools = pools;
        _sandboxes = sandboxes;
        _vmmUsage = vmmUsage;
        _disk = new DriveInfo(options.DataDir);
        meter.CreateObservableGauge("pandora_active_vms", Active, description: "Sandboxes in clients' hands");
        meter.CreateObservableGauge("pandora_warm_vms", () => PerTemplate(p => p.WarmCount), description: "MicroVMs that are warm");
        meter.CreateObservableGauge(
            "pandora_booting_vms", () => PerTemplate(p => p.BootingCount), description: "MicroVMs that boot or wait for a permit to boot");
        meter.CreateObservableGauge(
            "pandora_pool_waiters", () => PerTemplate(p => p.WaitingCount), description: "Clients that wait for a microVM");
        meter.CreateObservableGauge("pandora_pool_size", () => PerTemplate(p => p.Size), description: "MicroVMs that the pool keeps warm");
        meter.CreateObservableGauge(
            "pandora_max_sandboxes", () => options.MaxSandboxes, description: "Most sandboxes that may exist at once");
        meter.CreateObservableGauge(
            "pandora_budget_memory", () => budget.MemoryMib * MiB, "By", "Memory that all microVMs together may have");
        meter.CreateObservableGauge(
            "pandora_budget_vcpus", () => budget.Vcpus, description: "Virtual CPUs that all microVMs together may have");
        meter.CreateObservableGauge(
            "pandora_budget_held_memory", () => budget.Held.MemoryMib * MiB, "By",
            "Memory of the budget that microVMs hold, with those that are warm, start or end");
        meter.CreateObservableGauge(
            "pandora_budget_held_vcpus", () => budget.Held.Vcpus,
            description: "Virtual CPUs of the budget that microVMs hold, with those that are warm, start or end");
        meter.CreateObservableGauge(
            "pandora_budget_used_memory", () => sandboxes.Used.MemoryMib * MiB, "By", "Memory of the budget that sandboxes have");
        meter.CreateObservableGauge(
            "pandora_budget_used_vcpus", () => sandboxes.Used.Vcpus, description: "Virtual CPUs of the budget that sandboxes have");
        meter.CreateObservableGauge(
            "pandora_project_sandboxes", PerProject, description: "Sandboxes of each project, and its claims that wait");
        meter.CreateObservableGauge("pandora_slots", () => network.SlotCount, description: "Network slots that exist");
        meter.CreateObservableGauge(
            "pandora_slots_held", () => network.HeldCount, description: "Network slots held by microVMs, including those that end");
        meter.CreateObservableGauge(
            "pandora_disk_free", () => ReadDisk(d => d.AvailableFreeSpace), "By", "Free bytes on the file system of the microVMs' disks");
        meter.CreateObservableGauge(
            "pandora_disk_size", () => ReadDisk(d => d.TotalSize), "By", "Size in bytes of the file system of the microVMs' disks");
        meter.CreateObservableGauge(
            "pandora_disk_needed", () => room.Needed, "By", "Free bytes without which no microVM is handed out");
        meter.CreateObservableGauge(
            "pandora_disk_growth", () => room.Growth, "By", "Bytes by which the disks of all microVMs may still grow");
        meter.CreateObservableGauge("pandora_degraded_sandboxes", () => sandboxes.DegradedCount,
            description: "Sandboxes that wait for room on the host's disk, or whose disk has lost data");
        meter.CreateObservableCounter("pandora_vmm_cpu", () => Usage(u => u.CpuSeconds), "s", "CPU time used by all VMMs of this server");
        meter.CreateObservableGauge(
            "pandora_vmm_memory",
            () => Usage(u => (double)u.MemoryBytes),
            "By",
            "Memory held by all VMMs of this server, including the page cache of their disks");
        meter.CreateObservableGauge(
            "pandora_info",
            () =>
                new Measurement<int>(
                    1,
                    new("instance_id", instanceId),
                    new("vmm", vmm.Name),
                    new("vmm_version", vmm.Version),
                    new("accelerator", vmm.Accelerator)),
            description: "Instance id and VMM of this server, as labels");
    }

    // Operators make the projects, so they are few. The default one is always there.
    private List<Measurement<int>> PerProject()
    {
        var uses = _sandboxes.Uses;
        return
        [
            .. uses.Keys.Append(Project.DefaultName).Distinct().Select(p => new Measurement<int>(
                uses.GetValueOrDefault(p, ProjectUse.None).Sandboxes, new KeyValuePair<string, object?>("project", p))),
        ];
    }

    // Also for templates whose last sandbox has ended: without a value the gauge would not show zero.
    private List<Measurement<int>> Active()
    {
        var counts = _sandboxes.CountByTemplate();
        return [.. _pools.Templates.Union(counts.Keys).Select(t => Measured(counts.GetValueOrDefault(t), t))];
    }

    // The pools of a template's sizes together: clients choose the sizes, and each label value costs memory wherever metrics are kept.
    private List<Measurement<int>> PerTemplate(Func<WarmPool, int> read)
    {
        var pools = _pools.All.ToLookup(p => p.Template);
        return [.. _pools.Templates.Select(t => Measured(pools[t].Sum(read), t))];
    }

    private static Measurement<int> Measured(int value, string template) =>
        new(value, new KeyValuePair<string, object?>("template", template));

    private List<Measurement<double>> Usage(Func<(double CpuSeconds, long MemoryBytes), double> read) =>
        _vmmUsage() is { } usage ? [new(read(usage))] : [];

    private List<Measurement<long>> ReadDisk(Func<DriveInfo, long> read)
    {
        try
        {
            return [new(read(_disk))];
        }
        catch (IOException)
        {
            return [];
        }
    }
}
