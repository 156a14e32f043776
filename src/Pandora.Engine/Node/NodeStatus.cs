using Pandora.Vmm;

namespace Pandora.Engine.Node;

/// <summary>The identity and the state of a node.</summary>
/// <param name="Instance">Its instance id.</param>
/// <param name="Vmm">Its VMM.</param>
/// <param name="Notes">Warnings for the operator; empty when there are none.</param>
/// <param name="PoolSize">The number of microVMs of the default template to keep warm.</param>
/// <param name="WarmCount">The number of warm microVMs in all pools.</param>
/// <param name="IsReady">Whether a claim would find a warm microVM, or none is kept warm at all.</param>
/// <param name="IsRecovering">Whether the server still recovers sandboxes of an earlier server.</param>
/// <param name="IsProtected">Whether the last check found the network rules that isolate guests complete.</param>
/// <param name="Capacity">What the node may give to microVMs, and what they have.</param>
public sealed record NodeStatus(string Instance, VmmCapabilities Vmm, IReadOnlyList<string> Notes, int PoolSize, int WarmCount,
    bool IsReady, bool IsRecovering, bool IsProtected, NodeCapacity Capacity);

/// <summary>The memory, in MiB with what VMMs need, and the virtual CPUs of a node.</summary>
/// <param name="Budget">What all microVMs together may have.</param>
/// <param name="Used">What sandboxes have.</param>
/// <param name="Held">What all microVMs have: sandboxes, and those that are warm, start or end.</param>
public sealed record NodeCapacity(
    (long MemoryMib, int Vcpus) Budget, (long MemoryMib, int Vcpus) Used, (long MemoryMib, int Vcpus) Held);
