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
    public static string Text(NetworkSlot slot, NetworkPolicy policy, Egress egress)
    {
        var resolver = ResolverOf(slot, policy);
        var dns = resolver is null ? "" : $"ip daddr {resolver} meta l4proto {{ tcp, udp }} th dport 53 goto admit";
        var redirect = resolver is null ? ""
            : $"iifname \"tap0\" ip daddr {NetworkSlot.GatewayAddress} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {resolver}";
        var bounds = policy.Bounds;
        return $$"""
            table inet {{Table}}
            delete table inet {{Table}}
            table arp {{Table}}
            delete table arp {{Table}}
            table inet {{Table}} {
              set open { type ifname; {{(egress == Egress.Internet ? "elements = { \"tap0\" }" : "")}} }
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
                # Answers on the server's connections. The guest's own connections end when it loses its egress.
                ct state established,related ct direction reply accept
                iifname != @open goto refuse
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
                oifname != @open goto refuse
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

    /// <summary>Writes the transaction that gives a slot's guest its egress, or removes it.</summary>
    public static string EgressText(Egress egress) =>
        egress == Egress.Internet ? $"add element inet {Table} open {{ \"tap0\" }}" : $"flush set inet {Table} open";

    /// <summary>Returns the address for a slot's DNS requests. If the resolver listens on the host's loopback, this is the host's end of
    /// the veth pair, and the host's table forwards the requests to the resolver.</summary>
    private static IPAddress? ResolverOf(NetworkSlot slot, NetworkPolicy policy) =>
        policy.IsLocalResolver ? slot.HostAddress : policy.Resolver;
}
