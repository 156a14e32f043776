using Pandora.Agent.Protocol.Ports;

namespace Pandora.Agent.Ports;

/// <summary>A request about ports that was not done.</summary>
/// <param name="kind">Why.</param>
/// <param name="reason">The reason in words, for the client.</param>
internal sealed class PortFailedException(PortFailureKind kind, string reason) : Exception(reason)
{
    /// <summary>Why.</summary>
    public PortFailureKind Kind => kind;
}
