namespace Pandora.Engine;

/// <summary>The operations on sandboxes that are counted and audited, by the names that the API's operations have.</summary>
public enum SandboxOperation
{
    /// <summary>Claiming one.</summary>
    Create,

    /// <summary>Running a command in one.</summary>
    Exec,

    /// <summary>Ending one at its client's wish.</summary>
    Delete,
}
