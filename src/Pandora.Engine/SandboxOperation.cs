namespace Pandora.Engine;

/// <summary>The operations on sandboxes that are counted and audited. The API's operations have the same names.</summary>
public enum SandboxOperation
{
    /// <summary>Create a sandbox.</summary>
    Create,

    /// <summary>Run a command in a sandbox.</summary>
    Exec,

    /// <summary>Start, read, feed, signal or list processes in a sandbox.</summary>
    Process,

    /// <summary>Show, list, read, write, change or watch files in a sandbox.</summary>
    File,

    /// <summary>List ports of a sandbox, connect to one, or set who may see its preview.</summary>
    Port,

    /// <summary>Connect to a sandbox's SSH server, or set who may log in.</summary>
    Ssh,

    /// <summary>Set what a sandbox's guest may reach.</summary>
    Egress,

    /// <summary>End a sandbox because its client asked for it.</summary>
    Delete,
}
