using Pandora.Contracts;

namespace Pandora.Load;

/// <summary>
/// Which load to make. The load is a closed loop (<see cref="Parallel"/> clients, each with one sandbox after another) unless
/// <see cref="Rate"/> or <see cref="Burst"/> is set.
/// </summary>
public sealed record LoadPlan
{
    /// <summary>Number of sandboxes; not used with <see cref="Duration"/>.</summary>
    public int Requests { get; init; } = 10;

    /// <summary>Sandboxes at a time in a closed loop.</summary>
    public int Parallel { get; init; } = 4;

    /// <summary>Commands in each sandbox.</summary>
    public int ExecsPer { get; init; } = 3;

    /// <summary>The command.</summary>
    public string Code { get; init; } = "echo hello && hostname";

    /// <summary>
    /// Sandboxes started per second, whether or not earlier ones are finished: an open loop. Times then count from the moment when a
    /// sandbox was due, so that they include the waiting.
    /// </summary>
    public double? Rate { get; init; }

    /// <summary>Seconds after which no more sandboxes are started.</summary>
    public double? Duration { get; init; }

    /// <summary>Sandboxes created at the same instant. The next burst starts when all of them end, or as <see cref="Rate"/> says.</summary>
    public int? Burst { get; init; }

    /// <summary>Template of the sandboxes; null is the default one.</summary>
    public string? Template { get; init; }

    /// <summary>Seconds that a command may take: <see cref="Limits.MinExecTimeout"/> to <see cref="Limits.MaxTimeout"/>.</summary>
    public double ExecTimeout { get; init; } = Limits.DefaultExecTimeout;

    /// <summary>The number of sandboxes that will be started; null when it is not known in advance.</summary>
    public int? Expected
    {
        get
        {
            if (Duration is not { } seconds)
            {
                return Requests;
            }

            return Rate is { } rate ? (int)Math.Ceiling(rate * seconds) : null;
        }
    }
}
