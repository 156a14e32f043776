using Pandora.Contracts;

namespace Pandora.Load;

/// <summary>
/// What load to make. Closed loop (<see cref="Parallel"/> clients, each with one sandbox after the other) unless <see cref="Rate"/> or <see
/// cref="Burst"/> is set.
/// </summary>
public sealed record LoadPlan
{
    /// <summary>Sandboxes in all; not used with <see cref="Duration"/>.</summary>
    public int Requests { get; init; } = 10;

    /// <summary>Sandboxes at a time in a closed loop.</summary>
    public int Parallel { get; init; } = 4;

    /// <summary>Commands in each sandbox.</summary>
    public int ExecsPer { get; init; } = 3;

    /// <summary>The command.</summary>
    public string Code { get; init; } = "echo hello && hostname";

    /// <summary>
    /// Sandboxes a second, started whether or not earlier ones are done: an open loop. Times then count from when a sandbox was due, so
    /// that waiting is not hidden.
    /// </summary>
    public double? Rate { get; init; }

    /// <summary>Seconds after which no more are started.</summary>
    public double? Duration { get; init; }

    /// <summary>Sandboxes claimed at the same instant; the next burst follows when one is done, or when <see cref="Rate"/> says.</summary>
    public int? Burst { get; init; }

    /// <summary>Template to start from; null is the default one.</summary>
    public string? Template { get; init; }

    /// <summary>Seconds that a command may take: <see cref="Limits.MinExecTimeout"/> to <see cref="Limits.MaxExecTimeout"/>.</summary>
    public double ExecTimeout { get; init; } = Limits.DefaultExecTimeout;

    /// <summary>How many will be started, as far as that is known beforehand.</summary>
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
