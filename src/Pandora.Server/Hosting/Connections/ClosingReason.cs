namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Why a connection was refused, or closed before a key was shown on it. Their names in snake case are labels of a metric.
/// </summary>
internal enum ClosingReason
{
    /// <summary>It said nothing in time.</summary>
    FirstByte,

    /// <summary>Its request's headers did not end in time, or no request came that was let pass.</summary>
    Headers,

    /// <summary>It was the oldest without a key when room was needed for a newcomer.</summary>
    Evicted,

    /// <summary>It was new, and each of as many as there may be had shown a key.</summary>
    Full,

    /// <summary>It was one too many from its address.</summary>
    Address,

    /// <summary>Descriptors were about to run out.</summary>
    Descriptors,
}
