namespace Pandora.Engine;

/// <summary>
/// What a sandbox's guest may reach. A destination in <see cref="Allow"/> passes, else one in <see cref="Deny"/> is refused, else
/// <see cref="Default"/> decides. No policy opens what the server refuses to all guests: the host, other guests, private and
/// special-purpose ranges, and what the operator denies stay refused, also in <see cref="Allow"/>.
/// <para>The host's resolver is part of <see cref="Egress.Internet"/>, also when its address is in <see cref="Deny"/>. With
/// <see cref="Egress.None"/> a guest resolves no names, because a resolver carries data to any server, unless <see cref="Allow"/> has the
/// resolver's own address.</para>
/// <para>Guests have IPv4 only: nothing of IPv6 can be allowed, and all of it is denied.</para>
/// </summary>
/// <param name="Default">What it may reach, where no range applies.</param>
public sealed record EgressPolicy(Egress Default)
{
    /// <summary>Most ranges in <see cref="Allow"/> and <see cref="Deny"/> together.</summary>
    public const int MostRanges = 256;

    /// <summary>Ranges that pass, also where <see cref="Deny"/> has them.</summary>
    public IReadOnlyList<Ipv4Network> Allow { get; init; } = [];

    /// <summary>Ranges that are refused.</summary>
    public IReadOnlyList<Ipv4Network> Deny { get; init; } = [];

    /// <summary>Whether a guest may reach anything.</summary>
    public bool HasEgress => Default != Egress.None || Allow.Count > 0;

    /// <summary>The policy under a ceiling.</summary>
    /// <param name="ceiling">The most that it may give; null for no limit.</param>
    /// <returns>This policy, or the one without egress where the ceiling gives none.</returns>
    public EgressPolicy Limit(Egress? ceiling) => ceiling == Egress.None && HasEgress ? new EgressPolicy(Egress.None) : this;

    /// <summary>Whether this policy surely lets pass all that another lets pass. False also where only several ranges together
    /// do.</summary>
    public bool Includes(EgressPolicy other)
    {
        ArgumentNullException.ThrowIfNull(other);
        if (!other.Allow.All(Passes))
        {
            return false;
        }

        return other.Default == Egress.None
            || (Default == Egress.Internet && Deny.All(d => other.Deny.Concat(Allow).Any(r => r.Contains(d))));
    }

    /// <inheritdoc/>
    public bool Equals(EgressPolicy? other) =>
        other is not null && Default == other.Default && Allow.SequenceEqual(other.Allow) && Deny.SequenceEqual(other.Deny);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Default, Allow.Count, Deny.Count);

    private bool Passes(Ipv4Network range) =>
        Allow.Any(a => a.Contains(range)) || (Default == Egress.Internet && !Deny.Any(d => d.Overlaps(range)));
}
