using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>
/// The rules in a slot's namespace. They do not depend on the host's table: even without that table a guest reaches only what these rules
/// allow. They are always set and replaced as a whole.
/// </summary>
internal static class SlotRules
{
    /// <summary>Name of the table.</summary>
    public const string Table = "slot";

    /// <summary>Writes the transaction that makes the rules, or replaces existing rules, also those of an earlier version.</summary>
    public static string Text(NetworkSlot slot, NetworkPolicy policy, EgressPolicy egress)
    {
        var resolver = ResolverOf(slot, policy);
        var toResolver = resolver is null ? "" : $"ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53 goto";
        var (named, dns) = resolver is null ? ("", "") : ($"{toResolver} wanted", $"{toResolver} admit");
        var answer = resolver is null ? "" : $"ip saddr {resolver} meta l4proto {{ tcp, udp }} th sport 53 goto answer";
        var redirect = resolver is null ? ""
            : $"iifname \"tap0\" ip daddr {NetworkSlot.GatewayAddress} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {resolver}";
        var bounds = policy.Bounds;
        return $$"""
            table inet {{Table}}
            delete table inet {{Table}}
            table arp {{Table}}
            delete table arp {{Table}}
            table inet {{Table}} {
              set open { type ifname; {{Initially(OpenElements(egress))}} }
              set client_allow { type ipv4_addr; flags interval; {{Initially(Elements(egress.Allow))}} }
              set client_deny { type ipv4_addr; flags interval; {{Initially(Elements(egress.Deny))}} }
            {{policy.SetsText}}
            {{NetworkPolicy.TimeoutsText}}
              chain spoofed {
                type filter hook prerouting priority -300; policy accept;
                iifname "tap0" meta nfproto ipv6 drop
                iifname "tap0" ip saddr != {{NetworkSlot.GuestAddress}} drop
              }
              chain track {
                type filter hook prerouting priority -150; policy accept;
                ct state new meta l4proto tcp ct timeout set "tcp_times"
                ct state new meta l4proto udp ct timeout set "udp_times"
              }
              chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                iifname "up0" dnat ip to {{NetworkSlot.GuestAddress}}
                {{redirect}}
              }
              chain input {
                type filter hook input priority 0; policy accept;
                iifname "tap0" goto refuse
              }
              chain forward {
                type filter hook forward priority 0; policy drop;
                iifname "tap0" oifname "up0" goto from_guest
                iifname "up0" oifname "tap0" goto to_guest
              }
              chain from_guest {
                # Answers on the server's connections. The guest's own connections end when the client's policy refuses them.
                ct state established,related ct direction reply accept
                ip daddr @client_allow goto wanted
                iifname != @open goto refuse
                {{named}}
                ip daddr @client_deny goto refuse
                goto wanted
              }
              # What the client's policy lets pass. What the server refuses to all guests is still refused.
              chain wanted {
                ct state established,related accept
                # A TCP connection begins with SYN: one that was cut does not go on when the guest gets its egress again.
                tcp flags & (fin | syn | rst | ack) != syn goto refuse
                {{dns}}
                ip daddr @own goto refuse
                ip daddr @allowed goto admit
                ip daddr @forbidden goto refuse
                goto admit
              }
              chain admit {
                ct count over {{bounds.PerSlot}} goto refuse
                limit rate over {{bounds.SlotRate}}/second burst {{bounds.SlotBurst}} packets goto refuse
                accept
              }
            {{NetworkPolicy.RefuseText}}
              chain to_guest {
                # The server's own connections. All other packets that the host forwards to the guest are refused.
                ip saddr {{slot.HostAddress}} accept
                # By the connection and not by the packet: an ICMP error comes from a router on the way.
                ct reply ip saddr @client_allow goto answer
                oifname != @open goto refuse
                {{answer}}
                ct reply ip saddr @client_deny goto refuse
                goto answer
              }
              chain answer {
                ct state established,related accept
                goto refuse
              }
              chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                oifname "up0" masquerade
              }
            }
            table arp {{Table}} {
              chain input {
                type filter hook input priority 0; policy accept;
                # The kernel adds each sender of a request to the neighbour table, which all namespaces of the host share.
                iifname "tap0" arp saddr ip != {{NetworkSlot.GuestAddress}} drop
              }
            }

            """;
    }

    /// <summary>Writes the transaction that changes what a slot's guest may reach. It names only the sets that change.</summary>
    public static string EgressText(EgressPolicy before, EgressPolicy after) =>
        Change("open", OpenElements(before), OpenElements(after))
        + Change("client_allow", Elements(before.Allow), Elements(after.Allow))
        + Change("client_deny", Elements(before.Deny), Elements(after.Deny));

    private static string Change(string set, string before, string after)
    {
        if (before == after)
        {
            return "";
        }

        var flush = before == "" ? "" : $"flush set inet {Table} {set}\n";
        return after == "" ? flush : $"{flush}add element inet {Table} {set} {{ {after} }}\n";
    }

    private static string Initially(string elements) => elements == "" ? "" : $"elements = {{ {elements} }}";

    private static string OpenElements(EgressPolicy egress) => egress.Default == Egress.Internet ? "\"tap0\"" : "";

    // Without the ranges inside others: a set takes no overlapping intervals, and of two CIDR ranges that overlap, one contains the other.
    private static string Elements(IReadOnlyList<Ipv4Network> ranges) =>
        string.Join(", ", ranges.Distinct().Where(r => !ranges.Any(o => o != r && o.Contains(r))));

    /// <summary>Returns the address for a slot's DNS requests. If the resolver listens on the host's loopback, this is the host's end of
    /// the veth pair, and the host's table forwards the requests to the resolver.</summary>
    private static IPAddress? ResolverOf(NetworkSlot slot, NetworkPolicy policy) =>
        policy.IsLocalResolver ? slot.HostAddress : policy.Resolver;
}
