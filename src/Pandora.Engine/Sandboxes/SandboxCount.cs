namespace Pandora.Engine.Sandboxes;

/// <summary>How many sandboxes exist, within a limit.</summary>
/// <param name="most">The limit.</param>
internal sealed class SandboxCount(int most)
{
    private int _count;

    /// <summary>How many exist.</summary>
    public int Value => Volatile.Read(ref _count);

    /// <summary>Adds one that exists already, whatever the limit.</summary>
    public void Add() => Interlocked.Increment(ref _count);

    /// <summary>One exists no more.</summary>
    public void Remove() => Interlocked.Decrement(ref _count);

    /// <summary>Whether no more may be made now.</summary>
    /// <exception cref="PandoraException">No more may.</exception>
    public void MustHaveRoom()
    {
        if (Value >= most)
        {
            throw AtLimit();
        }
    }

    /// <summary>Adds one. In one step, so that claims that are served at the same moment cannot pass the limit together.</summary>
    /// <exception cref="PandoraException">As many exist as may.</exception>
    public void Claim()
    {
        for (var count = Value; count < most;)
        {
            var seen = Interlocked.CompareExchange(ref _count, count + 1, count);
            if (seen == count)
            {
                return;
            }

            count = seen;
        }

        throw AtLimit();
    }

    private PandoraException AtLimit() =>
        new(PandoraError.SandboxLimit,
            $"{Value} sandboxes exist, and no more than {most} may: delete one, or try again when one has ended")
        {
            Hint = "PANDORA_MAX_SANDBOXES is how many may exist",
        };
}
