using Pandora.Engine.Admission;
using Pandora.Engine.MicroVms;

namespace Pandora.Engine.Sandboxes;

/// <summary>The states of a sandbox.</summary>
public enum SandboxState
{
    /// <summary>It can be used.</summary>
    Running,

    /// <summary>
    /// It waits for room on the host's disk, or its disk has lost data; <see cref="SandboxStatus.Reason"/> says which of the two.
    /// </summary>
    Degraded,

    /// <summary>The server has just started, and whether it lives on is not known yet.</summary>
    Recovering,
}

/// <summary>How long a sandbox may live.</summary>
/// <param name="Idle">Idle time after which it is ended.</param>
/// <param name="EndsAt">When it is ended even while it is busy; null for never.</param>
public sealed record SandboxLifetime(TimeSpan Idle, DateTimeOffset? EndsAt);

/// <summary>A sandbox at one moment, as front ends show it.</summary>
/// <param name="Id">Id of the sandbox.</param>
/// <param name="Template">Name of the template that it was started from.</param>
/// <param name="Slot">Number of its network slot.</param>
/// <param name="Address">Address at which the host reaches its guest.</param>
/// <param name="State">The state.</param>
/// <param name="Reason">Why the state is not <see cref="SandboxState.Running"/>; null when it is.</param>
/// <param name="Age">Time since it was claimed.</param>
/// <param name="Idle">Time since the last activity that worked; zero while it is busy, or when the time is not known.</param>
/// <param name="Lifetime">How long it may live.</param>
/// <param name="ExecCount">Number of commands that this server started in it.</param>
/// <param name="Egress">What its guest may reach.</param>
/// <param name="Metadata">Names and values from its client.</param>
/// <param name="Project">Name of the project that it belongs to.</param>
/// <param name="Size">Its size; null when an older Pandora started it.</param>
public sealed record SandboxStatus(
    string Id, string Template, int Slot, string Address, SandboxState State, string? Reason, TimeSpan Age, TimeSpan Idle,
    SandboxLifetime Lifetime, int ExecCount, EgressPolicy Egress, IReadOnlyDictionary<string, string> Metadata, string Project,
    MicroVmSize? Size)
{
    /// <summary>When it was claimed.</summary>
    public required DateTimeOffset CreatedAt { get; init; }

    // The status comes from the record alone.
    internal static SandboxStatus OfUndecided(MicroVmRecord record, SandboxNode node, DateTimeOffset now)
    {
        var claim = record.Claim!;
        var age = now - claim.CreatedAt is { Ticks: > 0 } passed ? passed : TimeSpan.Zero;
        return new SandboxStatus(
            record.Id, record.Template, record.Slot, record.Address, SandboxState.Recovering,
            "the server has just started, and whether it lives on is not known yet", age, TimeSpan.Zero, LifetimeOf(claim, node), 0,
            claim.EgressPolicy, claim.Metadata, claim.ProjectName, record.Size)
        {
            CreatedAt = claim.CreatedAt,
        };
    }

    internal static SandboxLifetime LifetimeOf(ClaimRecord claim, SandboxNode node)
    {
        var last = claim.CreatedAt + node.LongestLifeOf(claim.ProjectName);
        return new(TimeSpan.FromSeconds(claim.IdleTimeout), claim.EndsAt is { } end && !(last < end) ? end : last);
    }
}
