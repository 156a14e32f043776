using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>What the rules of the host and of each slot are made of.</summary>
internal sealed record NetworkPolicy
{
    /// <summary>The range that slots take their addresses from.</summary>
    public required Ipv4Network Range { get; init; }

    /// <summary>Where guests' DNS goes; null when the host has no IPv4 resolver.</summary>
    public required IPAddress? Resolver { get; init; }

    /// <summary>What the operator allows although it is refused otherwise, on-link networks included; the host itself and other slots
    /// never.</summary>
    public required IReadOnlyList<Ipv4Network> Allowed { get; init; }

    /// <summary>What the operator refuses besides.</summary>
    public required IReadOnlyList<Ipv4Network> Denied { get; init; }

    /// <summary>The host's addresses now.</summary>
    public required HostAddresses Host { get; init; }

    /// <summary>How many connections guests may have.</summary>
    public required ConnectionBounds Bounds { get; init; }

    /// <summary>Mark of the connections that the host's kernel tracks for this instance's guests.</summary>
    public required uint Mark { get; init; }

    /// <summary>Whether the resolver listens on the host's loopback.</summary>
    public bool IsLocalResolver => Resolver is not null && IPAddress.IsLoopback(Resolver);

    /// <summary>Elements of the set <c>own</c>: the host itself and all slots. Nothing opens them.</summary>
    public string OwnElements => string.Join(", ", Host.Own.Append(Range));

    /// <summary>Elements of the set <c>forbidden</c>: special-purpose ranges, networks that the host is on, the operator's list.</summary>
    public string ForbiddenElements =>
        string.Join(", ", [.. SpecialPurpose.Ranges, .. Host.OnLink.Concat(Denied).Select(n => n.ToString())]);

    /// <summary>The sets, as the tables of the host and of each slot have them.</summary>
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

    /// <summary>How long entries are kept. A guest that opens and closes connections as fast as it may fills no table, and one that holds
    /// them idle loses them.</summary>
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

    /// <summary>How a packet is refused: at once, so that nobody waits for an answer.</summary>
    public const string RefuseText = """
          chain refuse {
            # The kernel sends a guest an ICMP refusal a second; a reset is sent always.
            meta l4proto tcp reject with tcp reset
            reject with icmpx admin-prohibited
          }
        """;

    /// <summary>The transaction that puts the host's current addresses into a table's sets.</summary>
    public string UpdateText(string table) => $$"""
        flush set inet {{table}} own
        flush set inet {{table}} forbidden
        add element inet {{table}} own { {{OwnElements}} }
        add element inet {{table}} forbidden { {{ForbiddenElements}} }
        """;
}
