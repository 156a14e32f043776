using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>The ranges, addresses and bounds that the rules of the host and of each slot are made of.</summary>
internal sealed record NetworkPolicy
{
    /// <summary>The range that slots take their addresses from.</summary>
    public required Ipv4Network Range { get; init; }

    /// <summary>The resolver for guests' DNS requests; null when the host has no IPv4 resolver.</summary>
    public required IPAddress? Resolver { get; init; }

    /// <summary>Ranges that the operator allows although they are refused otherwise, also networks of the host's interfaces. The host
    /// itself and other slots are always refused.</summary>
    public required IReadOnlyList<Ipv4Network> Allowed { get; init; }

    /// <summary>Ranges that the operator refuses in addition.</summary>
    public required IReadOnlyList<Ipv4Network> Denied { get; init; }

    /// <summary>The host's current addresses.</summary>
    public required HostAddresses Host { get; init; }

    /// <summary>Limits of the guests' connections.</summary>
    public required ConnectionBounds Bounds { get; init; }

    /// <summary>Mark of the connections that the host's kernel tracks for this instance's guests.</summary>
    public required uint Mark { get; init; }

    /// <summary>Whether the resolver listens on the host's loopback.</summary>
    public bool IsLocalResolver => Resolver is not null && IPAddress.IsLoopback(Resolver);

    /// <summary>Elements of the set <c>own</c>: the host itself and all slots. No setting allows them.</summary>
    public string OwnElements => string.Join(", ", Host.Own.Append(Range));

    /// <summary>Elements of the set <c>forbidden</c>: special-purpose ranges, networks of the host's interfaces, the operator's
    /// list.</summary>
    public string ForbiddenElements =>
        string.Join(", ", [.. SpecialPurpose.Ranges, .. Host.OnLink.Concat(Denied).Select(n => n.ToString())]);

    /// <summary>The sets, the same in the host's table and in each slot's.</summary>
    public string SetsText
    {
        get
        {
            var allowed = Allowed.Count == 0 ? "" : $"elements = {{ {string.Join(", ", Allowed)} }}";
            return $$"""
                  set own { type ipv4_addr; flags interval; auto-merge; elements = { {{OwnElements}} } }
                  set forbidden { type ipv4_addr; flags interval; auto-merge; elements = { {{ForbiddenElements}} } }
                  set allowed { type ipv4_addr; flags interval; auto-merge; {{allowed}} }
                """;
        }
    }

    /// <summary>How long the kernel keeps connection entries. A guest that opens and closes connections at the highest rate does not fill
    /// the table, and a guest loses connections that it keeps idle.</summary>
    public static string TimeoutsText
    {
        get
        {
            string[] tcp =
            [
                "syn_sent : 20",
                "syn_recv : 20",
                $"established : {ConnectionBounds.IdleSeconds}",
                "fin_wait : 30",
                "close_wait : 60",
                "last_ack : 20",
                $"time_wait : {ConnectionBounds.ClosedSeconds}",
                $"close : {ConnectionBounds.ClosedSeconds}",
            ];
            return $$"""
                  ct timeout tcp_times {
                    protocol tcp
                    l3proto ip
                    policy = { {{string.Join(", ", tcp)}} }
                  }
                  ct timeout udp_times {
                    protocol udp
                    l3proto ip
                    policy = { unreplied : 20, replied : 120 }
                  }
                """;
        }
    }

    /// <summary>The chain that refuses packets: with an answer, so that no program waits for one.</summary>
    public const string RefuseText = """
          chain refuse {
            # The kernel sends a guest at most one ICMP refusal per second; it always sends a reset.
            meta l4proto tcp reject with tcp reset
            reject with icmpx admin-prohibited
          }
        """;

    /// <summary>Writes the transaction that puts the host's current addresses into a table's sets.</summary>
    public string UpdateText(string table) => $$"""
        flush set inet {{table}} own
        flush set inet {{table}} forbidden
        add element inet {{table}} own { {{OwnElements}} }
        add element inet {{table}} forbidden { {{ForbiddenElements}} }
        """;
}
