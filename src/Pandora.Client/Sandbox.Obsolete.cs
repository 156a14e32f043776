using Pandora.Contracts;

namespace Pandora.Client;

// Members of version 0.1. They are removed in the next version.
public partial class Sandbox
{
    /// <summary>Milliseconds that the server took to provide the sandbox.</summary>
    [Obsolete("Use AcquireTime")]
    public double AcquireMs => Created.AcquireMs;

    /// <summary>The server's answer to the creation.</summary>
    [Obsolete("Use Id, AcquireTime, IsWarm and IdleTimeout")]
    public SandboxCreated Created => _created ?? throw new InvalidOperationException("this sandbox was not created by this client");
}
