using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The memory and the virtual CPUs that a server may give to microVMs, and those that they have.</summary>
public sealed record ServerCapacity
{
    /// <summary>Memory in MiB that all microVMs together may have. Each takes its guest's memory, and what the VMM needs besides.</summary>
    public long MemoryMib { get; init; }

    /// <summary>MiB of <see cref="MemoryMib"/> that sandboxes have.</summary>
    public long UsedMemoryMib { get; init; }

    /// <summary>MiB of <see cref="MemoryMib"/> that all microVMs have, also those that are warm, start or end. A warm one gives way to a
    /// sandbox.</summary>
    public long HeldMemoryMib { get; init; }

    /// <summary>Number of virtual CPUs that all microVMs together may have.</summary>
    public int Vcpus { get; init; }

    /// <summary>Number of <see cref="Vcpus"/> that sandboxes have.</summary>
    public int UsedVcpus { get; init; }

    /// <summary>Number of <see cref="Vcpus"/> that all microVMs have.</summary>
    public int HeldVcpus { get; init; }

    internal static ServerCapacity From(HealthCapacity capacity) => new()
    {
        MemoryMib = capacity.MemoryMib,
        UsedMemoryMib = capacity.UsedMemoryMib,
        HeldMemoryMib = capacity.HeldMemoryMib,
        Vcpus = capacity.Vcpus,
        UsedVcpus = capacity.UsedVcpus,
        HeldVcpus = capacity.HeldVcpus,
    };
}
