namespace Pandora.Engine.Admission;

/// <summary>What the host has.</summary>
/// <param name="MemoryMib">Memory in MiB.</param>
/// <param name="Processors">Number of processors.</param>
public sealed record HostCapacity(long MemoryMib, int Processors)
{
    /// <summary>
    /// Reads what this process may use: the whole host, or less in a container. The runtime reads <c>/proc/meminfo</c>, the limits of the
    /// process's cgroups and its affinity.
    /// </summary>
    public static HostCapacity Read() =>
        new(GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (1024 * 1024), Environment.ProcessorCount);
}
