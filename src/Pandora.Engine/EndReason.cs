namespace Pandora.Engine;

/// <summary>Why a sandbox ended.</summary>
public enum EndReason
{
    /// <summary>Its client deleted it.</summary>
    Deleted,

    /// <summary>No client used it for its idle timeout.</summary>
    Idle,

    /// <summary>Its VMM or guest died.</summary>
    Died,

    /// <summary>The server stopped.</summary>
    Shutdown,

    /// <summary>It reached the longest lifetime of a sandbox.</summary>
    Lifetime,
}
