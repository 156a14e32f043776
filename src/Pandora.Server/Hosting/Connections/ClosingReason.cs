namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Why a connection was refused, or closed before a valid key came on it. The names in snake case are labels of a metric.
/// </summary>
internal enum ClosingReason
{
    /// <summary>No byte came on it in time.</summary>
    FirstByte,

    /// <summary>The headers of its request did not end in time, or no request came that was accepted.</summary>
    Headers,

    /// <summary>It was the oldest connection without a valid key when a new connection needed room.</summary>
    Evicted,

    /// <summary>It was new, and all of the largest allowed number of connections had a valid key.</summary>
    Full,

    /// <summary>There were too many connections from its address.</summary>
    Address,

    /// <summary>Descriptors were about to run out.</summary>
    Descriptors,
}
