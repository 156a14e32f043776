namespace Pandora.Engine.Sandboxes;

/// <summary>Counts the sandboxes that exist, within a limit.</summary>
/// <param name="most">The limit.</param>
internal sealed class SandboxCount(int most)
{
    private int _count;

    /// <summary>The number of sandboxes.</summary>
    public int Value => Volatile.Read(ref _count);

    /// <summary>Counts a sandbox that exists already, even over the limit.</summary>
    public void Add() => Interlocked.Increment(ref _count);

    /// <summary>Counts one sandbox less.</summary>
    public void Remove() => Interlocked.Decrement(ref _count);

    /// <summary>Throws when the limit is reached.</summary>
    /// <exception cref="PandoraException">The limit is reached.</exception>
    public void MustHaveRoom()
    {
        if (Value >= most)
        {
            throw AtLimit();
        }
    }

    /// <summary>Counts one sandbox more, in one atomic step, so that simultaneous claims cannot pass the limit together.</summary>
    /// <exception cref="PandoraException">The limit is reached.</exception>
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
            $"{Value} sandboxes exist, and at most {most} may: delete one, or try again when one has ended")
        {
            Hint = "PANDORA_MAX_SANDBOXES sets how many may exist",
        };
}
