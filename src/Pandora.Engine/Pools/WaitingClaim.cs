using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Pools;

/// <summary>
/// A claim that waits. The pool completes it with a microVM or refuses it, under its lock and after it took the claim out of
/// <see cref="WaitingClaims"/>; so a claim that gives up either still waits there, or has its end already.
/// </summary>
/// <param name="project">Name of the claim's project.</param>
internal sealed class WaitingClaim(string project) : TaskCompletionSource<MicroVm>(TaskCreationOptions.RunContinuationsAsynchronously)
{
    /// <summary>Name of the claim's project.</summary>
    public string Project => project;

    /// <summary>Its place among the claims of the project; in no list once it no longer waits.</summary>
    public LinkedListNode<WaitingClaim> Place { get; set; } = null!;
}
