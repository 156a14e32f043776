namespace Pandora.Engine;

/// <summary>How a command ended.</summary>
public enum ExecStatus
{
    /// <summary>With exit code 0.</summary>
    Success,

    /// <summary>With another exit code, or without a result.</summary>
    Error,

    /// <summary>It did not end within its timeout.</summary>
    Timeout,
}
