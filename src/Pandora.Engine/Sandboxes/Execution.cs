using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// A command that is over, and whose result is on its way to the client. Until it is disposed it counts as running: what it holds is
/// bounded by the same limit.
/// </summary>
public sealed class Execution : IDisposable
{
    private readonly Sandbox.Lease _lease;
    private readonly Action _lost;

    internal Execution(GuestResult result, TimeSpan elapsed, Sandbox.Lease lease, Action lost)
    {
        Result = result;
        Elapsed = elapsed;
        _lease = lease;
        _lost = lost;
    }

    /// <summary>What came of it.</summary>
    public GuestResult Result { get; private set; }

    /// <summary>Time from its start to its end in the guest.</summary>
    public TimeSpan Elapsed { get; }

    /// <summary>Whether the sandbox's disk has lost data that the guest had written.</summary>
    public bool HasLostData { get; init; }

    /// <summary>Counts a result of which the client did not take all.</summary>
    public void RecordLost() => _lost();

    /// <summary>Lets go of the result and of its place among the sandbox's commands.</summary>
    public void Dispose()
    {
        // Whoever holds this on, as a server does a request for the next on its connection, holds no output.
        Result = Result with { Stdout = GuestOutput.Empty, Stderr = GuestOutput.Empty };
        _lease.Dispose();
    }
}
