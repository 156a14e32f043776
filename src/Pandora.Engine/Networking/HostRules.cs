namespace Pandora.Engine.Networking;

/// <summary>The rules of the instance's one table on the host. They repeat the isolation rules of each slot, translate the guests'
/// addresses (NAT), and limit the connections of all guests together.</summary>
internal static class HostRules
{
    /// <summary>Writes the transaction that makes the table, or replaces an existing one.</summary>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="policy">Ranges, addresses and bounds.</param>
    /// <param name="openedUplinks">Interfaces that did not forward before this instance turned forwarding on.</param>
    public static string Text(HostNames names, NetworkPolicy policy, IReadOnlyList<string> openedUplinks)
    {
        var ours = $"\"{names.InterfacePrefix}*\"";
        var local = policy.IsLocalResolver;
        var dns = policy.Resolver is null || local ? "" : $"ip daddr {policy.Resolver} meta l4proto {{ tcp, udp }} th dport 53 goto bound";
        var localDns = !local ? ""
            : $"iifname {ours} ip daddr {policy.Range} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {policy.Resolver}";
        // An uplink whose forwarding Pandora turned on forwards only for Pandora's guests.
        var uplinks = openedUplinks.Count == 0 ? ""
            : $"iifname {{ {string.Join(", ", openedUplinks.Select(u => $"\"{u}\""))} }} oifname != \"pnd*\" drop";
        return $$"""
            table inet {{names.TableName}}
            delete table inet {{names.TableName}}
            table inet {{names.TableName}} {
            {{policy.SetsText}}
            {{NetworkPolicy.TimeoutsText}}
              chain track {
                type filter hook prerouting priority -150; policy accept;
                iifname {{ours}} ct state new goto ours
              }
              chain track_own {
                type filter hook output priority -150; policy accept;
                oifname {{ours}} ct state new goto ours
                # A packet to a slot that no longer exists must not leave through the uplink.
                ip daddr {{policy.Range}} oifname != { "lo", {{ours}} } drop
              }
              chain ours {
                ct mark set {{policy.Mark}}
                meta l4proto tcp ct timeout set "tcp_times"
                meta l4proto udp ct timeout set "udp_times"
              }
              chain forward {
                type filter hook forward priority -10; policy accept;
                iifname {{ours}} goto from_guest
                oifname {{ours}} goto to_guest
                {{uplinks}}
              }
              chain from_guest {
                meta nfproto ipv6 goto refuse
                ct state established,related accept
                oifname {{ours}} goto refuse
                {{dns}}
                ip daddr @own goto refuse
                ip daddr @allowed goto bound
                ip daddr @forbidden goto refuse
                goto bound
              }
              chain bound {
                limit rate over {{policy.Bounds.AllRate}}/second burst {{policy.Bounds.AllRate}} packets goto refuse
                accept
              }
            {{NetworkPolicy.RefuseText}}
              chain to_guest {
                ct state established,related accept
                goto refuse
              }
              chain input {
                type filter hook input priority -10; policy accept;
                iifname {{ours}} goto to_host
              }
              chain to_host {
                ct state established,related accept
                # A resolver on one of the host's addresses, except loopback.
                {{dns}}
                ct status dnat meta l4proto { tcp, udp } th dport 53 goto bound
                goto refuse
              }
              chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                {{localDns}}
              }
              chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {{policy.Range}} oifname != {{ours}} masquerade
              }
            }

            """;
    }
}
