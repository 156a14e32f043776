namespace Pandora.Engine;

/// <summary>The outcome for a snapshot.</summary>
public enum SnapshotOutcome
{
    /// <summary>It was made.</summary>
    Made,

    /// <summary>It could not be made.</summary>
    Failed,

    /// <summary>It was damaged, and was dropped.</summary>
    Damaged,

    /// <summary>Its files had been changed since they were read, and it was dropped.</summary>
    Changed,

    /// <summary>It failed to restore too often, and was dropped.</summary>
    Dropped,
}
