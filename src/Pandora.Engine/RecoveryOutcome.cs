namespace Pandora.Engine;

/// <summary>What became of a microVM of an earlier server.</summary>
public enum RecoveryOutcome
{
    /// <summary>It lives on as a sandbox.</summary>
    Sandbox,

    /// <summary>It lives on in the warm pool.</summary>
    Warm,

    /// <summary>It could not be taken over, and was undone.</summary>
    Lost,
}
