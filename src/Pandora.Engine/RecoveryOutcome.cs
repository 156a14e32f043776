namespace Pandora.Engine;

/// <summary>The outcome of recovery for a microVM of an earlier server.</summary>
public enum RecoveryOutcome
{
    /// <summary>It lives on as a sandbox.</summary>
    Sandbox,

    /// <summary>It lives on in the warm pool.</summary>
    Warm,

    /// <summary>It could not be adopted, and was cleaned up.</summary>
    Lost,
}
