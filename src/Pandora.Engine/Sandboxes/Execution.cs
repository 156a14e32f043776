using Pandora.Engine.Guests;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// A command that has ended, and whose result is being sent to the client. Until it is disposed it counts as running, so that the limit of
/// running commands also bounds the results in memory.
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

    /// <summary>The result of the command.</summary>
    public GuestResult Result { get; private set; }

    /// <summary>Time from the command's start to its end in the guest.</summary>
    public TimeSpan Elapsed { get; }

    /// <summary>Whether the sandbox's disk has lost data that the guest had written.</summary>
    public bool HasLostData { get; init; }

    /// <summary>Counts a result that the client did not read to its end.</summary>
    public void RecordLost() => _lost();

    /// <summary>Releases the result, and the command's lease on the sandbox.</summary>
    public void Dispose()
    {
        // The web server keeps a request's objects for the next request on the connection: they must not hold the output.
        Result = Result with { Stdout = GuestOutput.Empty, Stderr = GuestOutput.Empty };
        _lease.Dispose();
    }
}
