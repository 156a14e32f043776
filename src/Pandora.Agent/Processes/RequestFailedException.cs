using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>A request could not be done.</summary>
internal sealed class RequestFailedException(FailureKind kind, string reason) : Exception(reason)
{
    public FailureKind Kind => kind;
}
