using Pandora.Vmm;

namespace Pandora.Engine.Node;

/// <summary>What a node is and how it stands.</summary>
/// <param name="Instance">Its instance id.</param>
/// <param name="Vmm">Its VMM.</param>
/// <param name="Notes">What an operator should know; empty when all is well.</param>
/// <param name="PoolSize">How many microVMs of the default template are kept warm.</param>
/// <param name="WarmCount">How many are warm now, in all pools.</param>
/// <param name="IsReady">Whether a claim would find a warm microVM, or none is kept warm at all.</param>
/// <param name="IsRecovering">Whether what an earlier server left is still being taken over.</param>
/// <param name="IsProtected">Whether what keeps guests in was whole when it was last looked at.</param>
public sealed record NodeStatus(string Instance, VmmCapabilities Vmm, IReadOnlyList<string> Notes, int PoolSize, int WarmCount,
    bool IsReady, bool IsRecovering, bool IsProtected);
