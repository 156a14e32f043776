using System.Net;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Vmm.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// The host's side of the network: the instance's one nftables table, forwarding for its interfaces, and an accept where the host's own firewall would cut guests off.
/// All of it is made by <see cref="CreateAsync"/> and undone by <see cref="DisposeAsync"/>, or by the next start's <see cref="RemoveLeftoversAsync"/>.
/// </summary>
public sealed partial class HostNetwork : IAsyncDisposable
{
    /// <summary>What guests never reach unless it is allowed: private, shared, link-local, loopback, multicast and reserved ranges (RFC 6890).</summary>
    private const string Forbidden = "0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 172.16.0.0/12, 192.168.0.0/16, 198.18.0.0/15, 224.0.0.0/3";
    private readonly Nftables _nftables;
    private readonly Instance _instance;
    private readonly Egress _defaultEgress;
    private readonly ForeignFirewall _foreign;
    private readonly Forwarding _forwarding;
    private readonly ILogger _logger;

    private HostNetwork(Nftables nftables, Instance instance, Egress defaultEgress, ForeignFirewall foreign, Forwarding forwarding, Ipv4Network range, int mtu, IPAddress? resolver, ILogger logger)
    {
        _nftables = nftables;
        _instance = instance;
        _defaultEgress = defaultEgress;
        _foreign = foreign;
        _forwarding = forwarding;
        _logger = logger;
        Range = range;
        Mtu = mtu;
        Resolver = resolver;
    }

    /// <summary>The range that slots take their addresses from.</summary>
    public Ipv4Network Range { get; }

    /// <summary>The uplink's MTU, which guests are given.</summary>
    public int Mtu { get; }

    /// <summary>Where guests' DNS goes; null when the host has no IPv4 resolver.</summary>
    public IPAddress? Resolver { get; }

    /// <summary>Whether the resolver listens on the host's loopback.</summary>
    private bool IsLocalResolver => Resolver is not null && IPAddress.IsLoopback(Resolver);

    /// <summary>Chooses the range, makes the table, and opens what must be open. A table of an earlier server is replaced in the same transaction, so that no guest is without for an instant.</summary>
    /// <param name="instance">Whose network it is.</param>
    /// <param name="options">Ranges, egress, resolvers.</param>
    /// <param name="living">MicroVMs of an earlier server: their slots keep their range and egress, and their filter if this fails.</param>
    /// <param name="logger">Where it tells what it found.</param>
    /// <param name="cancellationToken">Ends the tools.</param>
    /// <exception cref="StartupException">The range is not one, or overlaps, or nftables is not to be used.</exception>
    public static async Task<HostNetwork> CreateAsync(Instance instance, EngineOptions options, IReadOnlyList<MicroVmRecord> living, ILogger logger, CancellationToken cancellationToken)
    {
        // Routes to our own slots are of microVMs that outlived their server.
        var routes = HostRoutes.Read().Where(r => !r.Interface.StartsWith(instance.InterfacePrefix, StringComparison.Ordinal)).ToList();
        var range = options.Network is null && living.Count > 0 && Ipv4Network.TryParse(living[0].Network, out var known) ? known : ChooseRange(options.Network, routes, logger);
        var online = living.Where(r => (r.Claim?.Egress ?? options.Egress) == Egress.Internet).Select(r => r.Slot);
        var allowed = ParseAllowed(options.EgressAllow);
        var resolver = HostRoutes.Resolvers(options.ResolvConf).FirstOrDefault();
        if (resolver is null)
        {
            LogNoResolver(logger, options.ResolvConf);
        }

        var uplink = HostRoutes.InterfaceTo(routes, IPAddress.Parse("198.51.100.1"));
        var mtu = uplink is null ? 1500 : await ReadMtuAsync(uplink, cancellationToken);
        string?[] ways = [uplink, resolver is null ? null : HostRoutes.InterfaceTo(routes, resolver), .. allowed.Select(a => HostRoutes.InterfaceTo(routes, a.At(0)))];
        var nftables = new Nftables();
        var forwarding = new Forwarding(instance, options.RunDir);
        var foreign = new ForeignFirewall(nftables, instance);
        try
        {
            var opened = forwarding.Enable([.. ways.OfType<string>().Where(w => w != "lo").Distinct()]);
            var network = new HostNetwork(nftables, instance, options.Egress, foreign, forwarding, range, mtu, resolver, logger);
            await foreign.RemoveAsync(cancellationToken);
            nftables.Run($"table inet {instance.TableName}; delete table inet {instance.TableName}\n{network.TableText(allowed, opened, [.. online])}");
            foreach (var place in await foreign.AcceptAsync(network.IsLocalResolver, cancellationToken))
            {
                LogForeignAccept(logger, place);
            }

            return network;
        }
        catch (Exception e) when (e is NftablesException or IOException or UnauthorizedAccessException or CommandException)
        {
            if (living.Count == 0)
            {
                await UndoAsync(nftables, foreign, forwarding, instance, logger);
            }
            else
            {
                // They live on behind the filter that they have.
                nftables.Dispose();
            }

            throw new StartupException($"the host's network could not be set up: {e.Message}. Pandora needs root with CAP_NET_ADMIN, and nftables in the kernel", e);
        }
    }

    /// <summary>Removes the namespaces and interfaces of this instance but for those of some slots.</summary>
    /// <param name="instance">Whose they are.</param>
    /// <param name="living">Numbers of the slots that stay.</param>
    public static async Task RemoveLeftoversAsync(Instance instance, IReadOnlySet<int> living)
    {
        bool IsLeft(string name, string prefix) => name.StartsWith(prefix, StringComparison.Ordinal) && !(int.TryParse(name[prefix.Length..], out var slot) && living.Contains(slot));
        foreach (var name in File.ReadLines("/proc/thread-self/net/dev").Select(l => l.Split(':')[0].Trim()).Where(n => IsLeft(n, instance.InterfacePrefix)).ToList())
        {
            await IpTool.DeleteLinkAsync(name);
        }

        foreach (var path in Directory.Exists("/run/netns") ? Directory.GetFiles("/run/netns", $"{instance.NamespacePrefix}*") : [])
        {
            if (IsLeft(Path.GetFileName(path), instance.NamespacePrefix))
            {
                await IpTool.DeleteNamespaceAsync(Path.GetFileName(path));
            }
        }
    }

    /// <summary>Removes the table, accepts and forwarding of a server that is gone.</summary>
    public static async Task RemoveAsync(Instance instance, EngineOptions options, CancellationToken cancellationToken)
    {
        using var nftables = new Nftables();
        await new ForeignFirewall(nftables, instance).RemoveAsync(cancellationToken);
        nftables.Run($"table inet {instance.TableName}; delete table inet {instance.TableName}");
        new Forwarding(instance, options.RunDir).Restore();
    }

    /// <summary>Lets a fresh slot do what the default allows.</summary>
    public void Open(NetworkSlot slot)
    {
        Forwarding.EnableOwn(slot.InterfaceName, IsLocalResolver);
        if (_defaultEgress == Egress.Internet)
        {
            SetEgress(slot, Egress.Internet);
        }
    }

    /// <summary>Takes back what <see cref="Open"/> and <see cref="SetEgress"/> gave.</summary>
    public void Close(NetworkSlot slot) => SetEgress(slot, Egress.None);

    /// <summary>Sets what a slot's guest may reach: one transaction, no process. It holds from the next packet on.</summary>
    public void SetEgress(NetworkSlot slot, Egress egress)
    {
        var element = $"element inet {_instance.TableName} internet {{ \"{slot.InterfaceName}\" }}";
        // Adding twice is no error; deleting what is not there is, so it is added first in the same transaction.
        _nftables.Run(egress == Egress.Internet ? $"add {element}" : $"add {element}\ndelete {element}");
    }

    /// <summary>All of the host's rules, as libnftables' JSON.</summary>
    internal string ListRules() => _nftables.Run("list ruleset", asJson: true);

    /// <summary>Leaves everything as it is, for guests that live on without a server.</summary>
    public void Leave() => _nftables.Dispose();

    /// <inheritdoc/>
    public async ValueTask DisposeAsync() => await UndoAsync(_nftables, _foreign, _forwarding, _instance, _logger);

    private static async Task UndoAsync(Nftables nftables, ForeignFirewall foreign, Forwarding forwarding, Instance instance, ILogger logger)
    {
        try
        {
            await foreign.RemoveAsync(CancellationToken.None);
            nftables.Run($"table inet {instance.TableName}; delete table inet {instance.TableName}");
            forwarding.Restore();
        }
        catch (Exception e) when (e is NftablesException or IOException or UnauthorizedAccessException or CommandException)
        {
            LogUndoFailed(logger, e.Message);
        }

        nftables.Dispose();
    }

    /// <summary>The range that a server started now would take its slots from; what other Pandora servers hold here counts as free.</summary>
    /// <exception cref="StartupException">The range that is wanted is none or overlaps a route, or none is free.</exception>
    public static Ipv4Network ChooseRange(string? wanted) =>
        ChooseRange(wanted, [.. HostRoutes.Read().Where(r => !r.Interface.StartsWith("pnd", StringComparison.Ordinal))], Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);

    private static Ipv4Network ChooseRange(string? wanted, IReadOnlyList<HostRoute> routes, ILogger logger)
    {
        bool IsFree(Ipv4Network range) => !routes.Any(r => r.Destination.PrefixLength > 0 && r.Destination.Overlaps(range));
        if (wanted is not null)
        {
            if (!Ipv4Network.TryParse(wanted, out var range) || range.PrefixLength is < 8 or > 30)
            {
                throw new StartupException($"PANDORA_NETWORK: '{wanted}' is not an IPv4 range from /8 to /30, such as 10.200.0.0/16");
            }

            return IsFree(range) ? range : throw new StartupException($"PANDORA_NETWORK: {range} overlaps a route of this host; choose another, or leave it unset and a free one is found");
        }

        for (var i = 0; i < 20; i++)
        {
            _ = Ipv4Network.TryParse($"10.{200 + i}.0.0/16", out var range);
            if (IsFree(range))
            {
                if (i > 0)
                {
                    LogOtherRange(logger, range.ToString());
                }

                return range;
            }
        }

        throw new StartupException("10.200.0.0/16 to 10.219.0.0/16 all overlap routes of this host: set PANDORA_NETWORK to a free IPv4 range");
    }

    private static List<Ipv4Network> ParseAllowed(string text) =>
    [
        .. text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(part =>
            Ipv4Network.TryParse(part, out var range) ? range : throw new StartupException($"PANDORA_EGRESS_ALLOW: '{part}' is not an IPv4 address or range")),
    ];

    private static async Task<int> ReadMtuAsync(string name, CancellationToken cancellationToken)
    {
        var links = JsonNode.Parse(await Command.RunAsync("ip", ["-j", "link", "show", "dev", name], cancellationToken: cancellationToken));
        return Math.Clamp(links?[0]?["mtu"]?.GetValue<int>() ?? 1500, 576, 1500);
    }

    private string TableText(IReadOnlyList<Ipv4Network> allowed, IReadOnlyList<string> openedUplinks, IReadOnlyList<int> online)
    {
        var elements = online.Count == 0 ? "" : $"elements = {{ {string.Join(", ", online.Select(i => $"\"{_instance.InterfacePrefix}{i}\""))} }}";
        var ours = $"\"{_instance.InterfacePrefix}*\"";
        var dns = Resolver is null || IsLocalResolver ? "" : $"ip daddr {Resolver} meta l4proto {{ tcp, udp }} th dport 53 accept";
        var localDns = !IsLocalResolver ? "" : $"iifname {ours} iifname @internet ip daddr {Range} meta l4proto {{ tcp, udp }} th dport 53 dnat ip to {Resolver}";
        var allow = allowed.Count == 0 ? "" : $"ip daddr {{ {string.Join(", ", allowed)} }} accept";
        // Where we turned forwarding on for an uplink, it forwards for guests of Pandora's and nobody else.
        var uplinks = openedUplinks.Count == 0 ? "" : $"iifname {{ {string.Join(", ", openedUplinks.Select(u => $"\"{u}\""))} }} oifname != \"pnd*\" drop";
        // A resolver on another of the host's own addresses is met by the input chain.
        var hostDns = Resolver is null || IsLocalResolver ? "" : $"iifname @internet ip daddr {Resolver} meta l4proto {{ tcp, udp }} th dport 53 accept";
        return $$"""
            table inet {{_instance.TableName}} {
              set internet { type ifname; {{elements}} }
              chain forward {
                type filter hook forward priority -10; policy accept;
                iifname {{ours}} goto from_guest
                oifname {{ours}} goto to_guest
                {{uplinks}}
              }
              chain from_guest {
                meta nfproto ipv6 goto refuse
                ct state established,related accept
                iifname != @internet goto refuse
                oifname {{ours}} goto refuse
                {{dns}}
                {{allow}}
                ip daddr { {{Forbidden}} } goto refuse
              }
              chain refuse {
                # The kernel sends a guest an ICMP refusal a second; a reset is sent always.
                meta l4proto tcp reject with tcp reset
                reject with icmpx admin-prohibited
              }
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
                {{hostDns}}
                iifname @internet ct status dnat meta l4proto { tcp, udp } th dport 53 accept
                goto refuse
              }
              chain prerouting {
                type nat hook prerouting priority dstnat; policy accept;
                {{localDns}}
              }
              chain postrouting {
                type nat hook postrouting priority srcnat; policy accept;
                ip saddr {{Range}} oifname != {{ours}} masquerade
              }
            }
            """;
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The host has no IPv4 resolver in {Path}: names will not resolve in sandboxes")]
    private static partial void LogNoResolver(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Information, Message = "10.200.0.0/16 overlaps a route of this host: slots are in {Range} instead")]
    private static partial void LogOtherRange(ILogger logger, string range);

    [LoggerMessage(Level = LogLevel.Information, Message = "The host's firewall drops forwarded packets: an accept for sandboxes was added to {Place}, and goes when the server stops")]
    private static partial void LogForeignAccept(ILogger logger, string place);

    [LoggerMessage(Level = LogLevel.Error, Message = "A part of the host's network could not be undone: {Error}. The next start tries again")]
    private static partial void LogUndoFailed(ILogger logger, string error);
}
