namespace Pandora.Engine;

/// <summary>How commands reach a guest.</summary>
public enum ExecWay
{
    /// <summary>By a device to the agent in the guest.</summary>
    Agent,

    /// <summary>By the guest's SSH server, which runs the agent for as long as the session lasts.</summary>
    Ssh,
}
