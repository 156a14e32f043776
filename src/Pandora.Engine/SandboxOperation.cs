namespace Pandora.Engine;

/// <summary>The operations on sandboxes that are counted and audited. The API's operations have the same names.</summary>
public enum SandboxOperation
{
    /// <summary>Create a sandbox.</summary>
    Create,

    /// <summary>Run a command in a sandbox.</summary>
    Exec,

    /// <summary>End a sandbox because its client asked for it.</summary>
    Delete,
}
