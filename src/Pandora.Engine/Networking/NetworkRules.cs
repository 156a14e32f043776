using System.Collections.Concurrent;
using System.Net;
using System.Text.Json.Nodes;
using Microsoft.Extensions.Logging;
using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// All rules of an instance: its one nftables table on the host, the rules in each slot's namespace, forwarding for its interfaces, and
/// accept rules where the host's own firewall drops guests' packets. <see cref="CreateAsync"/> makes them. <see cref="DisposeAsync"/> or
/// the next start removes them. <see cref="NetworkWatch"/> checks and repairs them.
/// </summary>
internal sealed partial class NetworkRules : IAsyncDisposable
{
    // An address of the internet, whose route names the uplink. Nothing is sent to it.
    private static readonly IPAddress PublicAddress = IPAddress.Parse("1.1.1.1");
    private readonly ConcurrentDictionary<int, GuardedSlot> _guarded = new();
    private readonly NamespaceThread _claims = new("slots' rules"), _checks = new("slots' checks");
    private readonly Nftables _nftables;
    private readonly HostNames _names;
    private readonly ForeignFirewall _foreign;
    private readonly Forwarding _forwarding;
    private readonly Netlink _netlink = new(Netlink.Netfilter);
    private readonly IReadOnlyList<string> _uplinks;
    private readonly ILogger _logger;
    private volatile IReadOnlyList<string> _opened;
    private volatile NetworkPolicy _policy;

    private NetworkRules(
        Nftables nftables, HostNames names, ForeignFirewall foreign, Forwarding forwarding, IReadOnlyList<string> uplinks,
        NetworkPolicy policy, int mtu, ILogger logger)
    {
        _nftables = nftables;
        _names = names;
        _foreign = foreign;
        _forwarding = forwarding;
        _uplinks = uplinks;
        _opened = forwarding.FindClosed(uplinks);
        _policy = policy;
        _logger = logger;
        Mtu = mtu;
    }

    /// <summary>The range that slots take their addresses from.</summary>
    public Ipv4Network Range => _policy.Range;

    /// <summary>The uplink's MTU, which guests use as well.</summary>
    public int Mtu { get; }

    /// <summary>The ranges that are tried in this order when none is set.</summary>
    internal static string[] CandidateRanges { get; } = [.. Enumerable.Range(200, 20).Select(i => $"10.{i}.0.0/16")];

    /// <summary>Chooses the range, makes the table, and turns on forwarding. Slots of living microVMs get this version's rules before the
    /// table of an earlier server is replaced, so that no guest is without rules at any time.</summary>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="options">Ranges, egress, resolvers.</param>
    /// <param name="living">Slots of microVMs of an earlier server. They keep their range, and also their rules if this fails.</param>
    /// <param name="logger">Receives what was found.</param>
    /// <param name="cancellationToken">Kills the tools.</param>
    /// <exception cref="StartupException">The range is not valid or overlaps a route, or nftables cannot be used.</exception>
    public static async Task<NetworkRules> CreateAsync(
        HostNames names, EngineOptions options, IReadOnlyList<LivingSlot> living, ILogger logger, CancellationToken cancellationToken)
    {
        // Routes to this instance's slots are of microVMs that outlived their server.
        var routes = HostRoutes.Read().Where(r => !r.Interface.StartsWith(names.InterfacePrefix, StringComparison.Ordinal)).ToList();
        var range =
            options.Network is null && living.Count > 0 && Ipv4Network.TryParse(living[0].Network, out var known)
                ? known
                : ChooseRange(options.Network, routes, logger);
        var allowed = ParseRanges("PANDORA_EGRESS_ALLOW", options.EgressAllow);
        var denied = ParseRanges("PANDORA_EGRESS_DENY", options.EgressDeny);
        var resolver = HostRoutes.Resolvers(options.ResolvConf).FirstOrDefault();
        if (resolver is null)
        {
            LogNoResolver(logger, options.ResolvConf);
        }

        var uplink = HostRoutes.InterfaceTo(routes, PublicAddress);
        var mtu = uplink is null ? 1500 : await ReadMtuAsync(uplink, cancellationToken);
        string?[] uplinks =
        [
            uplink,
            resolver is null ? null : HostRoutes.InterfaceTo(routes, resolver),
            .. allowed.Select(a => HostRoutes.InterfaceTo(routes, a.At(0))),
        ];
        var nftables = new Nftables();
        var forwarding = new Forwarding(names);
        var foreign = new ForeignFirewall(nftables, names);
        NetworkRules? network = null;
        try
        {
            // This rule makes the kernel load connection tracking: its table size is not known before.
            nftables.Run($"table inet {names.TableName} {{ chain ours {{ ct state new accept; }}; }}");
            var policy = new NetworkPolicy
            {
                Range = range,
                Resolver = resolver,
                Allowed = allowed,
                Denied = denied,
                Host = HostAddresses.Read(),
                Bounds = ConnectionBounds.For(Conntrack.Maximum, options.MostSlots),
                Mark = names.ConnectionMark,
            };
            if (policy.Bounds.PerSlot < ConnectionBounds.Comfortable)
            {
                LogFewConnections(logger, policy.Bounds.PerSlot, options.MostSlots, Conntrack.Maximum);
            }

            network = new NetworkRules(
                nftables, names, foreign, forwarding, [.. uplinks.OfType<string>().Where(u => u != "lo").Distinct()], policy, mtu, logger);
            foreach (var slot in living)
            {
                await network.TryAdoptAsync(NetworkSlot.At(slot.Index, names, range), slot.Egress);
            }

            await foreign.RemoveAsync(cancellationToken);
            network.WriteTable();
            // After the table, because the table limits the uplinks to guests' packets.
            forwarding.Open(network._opened);
            foreach (var place in await foreign.AcceptAsync(policy.IsLocalResolver, cancellationToken))
            {
                LogForeignAccept(logger, place);
            }

            return network;
        }
        catch (Exception e)
        {
            if (living.Count == 0)
            {
                await UndoAsync(nftables, foreign, forwarding, names, logger);
            }

            // Living microVMs keep the rules that they have.
            network?.DetachWithoutCleanup();
            nftables.Dispose();
            if (e is NftablesException or IOException or UnauthorizedAccessException or CommandException)
            {
                throw new StartupException(
                    $"the host's network could not be set up: {e.Message}. Pandora needs root with CAP_NET_ADMIN, and nftables in "
                        + "the kernel",
                    e);
            }

            throw;
        }
    }

    /// <summary>Whether a slot of an earlier server has this version's rules. Without them its microVM is not adopted.</summary>
    public bool IsGuarded(int slot) => _guarded.ContainsKey(slot);

    /// <summary>Prepares a new slot's interface, and watches the slot's rules from now on.</summary>
    /// <param name="slot">The slot.</param>
    /// <param name="egress">What its rules allow.</param>
    /// <param name="rules">The rules that the slot has, from <see cref="RulesOf"/>. If the host's addresses have changed since, the rules
    /// are written again.</param>
    public async Task OpenAsync(NetworkSlot slot, EgressPolicy egress, string rules)
    {
        var policy = _policy;
        Forwarding.PrepareInterface(slot.InterfaceName, policy.IsLocalResolver);
        var guarded = new GuardedSlot(slot, egress, policy);
        await _claims.RunAsync(slot.NamespacePath, () =>
        {
            LimitFragments();
            if (rules == SlotRules.Text(slot, policy, egress))
            {
                guarded.Generation = ReadGeneration();
            }
            else
            {
                guarded.Write(policy);
            }

            return true;
        });
        _guarded[slot.Index] = guarded;
    }

    /// <summary>Returns the rules of a slot's namespace, as nft(8) takes them.</summary>
    public string RulesOf(NetworkSlot slot, EgressPolicy egress) => SlotRules.Text(slot, _policy, egress);

    /// <summary>Stops watching a slot's rules, because the slot is being cleaned up.</summary>
    public void Close(NetworkSlot slot) => _guarded.TryRemove(slot.Index, out _);

    /// <summary>Deletes the connections that the host's kernel tracks for a slot.</summary>
    /// <exception cref="IOException">The kernel refused.</exception>
    public void ForgetConnections(NetworkSlot slot) => Conntrack.Remove(_policy.Mark, slot.Address);

    /// <summary>Lists all of the host's rules, as libnftables' JSON.</summary>
    internal string ListRules() => _nftables.Run("list ruleset", asJson: true);

    /// <summary>Leaves all rules as they are, for guests that continue without a server.</summary>
    public void DetachWithoutCleanup()
    {
        _nftables.Dispose();
        DisposeHandles();
    }

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        await UndoAsync(_nftables, _foreign, _forwarding, _names, _logger);
        DisposeHandles();
    }

    private void DisposeHandles()
    {
        _claims.Dispose();
        _checks.Dispose();
        lock (_netlink)
        {
            _netlink.Dispose();
        }
    }

    private static async Task UndoAsync(Nftables nftables, ForeignFirewall foreign, Forwarding forwarding, HostNames names, ILogger logger)
    {
        try
        {
            await foreign.RemoveAsync(CancellationToken.None);
            nftables.Run($"table inet {names.TableName}; delete table inet {names.TableName}");
            forwarding.Restore();
        }
        catch (Exception e) when (e is NftablesException or IOException or UnauthorizedAccessException or CommandException)
        {
            LogUndoFailed(logger, e.Message);
        }

        nftables.Dispose();
    }

    /// <summary>
    /// Chooses the range that a server started now would take its slots from. Ranges of other Pandora servers count as free.
    /// </summary>
    /// <exception cref="StartupException">The wanted range is not valid or overlaps a route, or no range is free.</exception>
    public static Ipv4Network ChooseRange(string? wanted) =>
        ChooseRange(
            wanted,
            [.. HostRoutes.Read().Where(r => !r.Interface.StartsWith(HostNames.AnyInterfacePrefix, StringComparison.Ordinal))],
            Microsoft.Extensions.Logging.Abstractions.NullLogger.Instance);

    private static Ipv4Network ChooseRange(string? wanted, IReadOnlyList<HostRoute> routes, ILogger logger)
    {
        bool IsFree(Ipv4Network range) => !routes.Any(r => r.Destination.PrefixLength > 0 && r.Destination.Overlaps(range));
        if (wanted is not null)
        {
            if (!Ipv4Network.TryParse(wanted, out var range) || range.PrefixLength is < 8 or > 30)
            {
                throw new StartupException($"PANDORA_NETWORK: '{wanted}' is not an IPv4 range from /8 to /30, such as 10.200.0.0/16");
            }

            return IsFree(range)
                ? range
                : throw new StartupException(
                    $"PANDORA_NETWORK: {range} overlaps a route of this host: set another range, or unset it to have a free one chosen");
        }

        foreach (var candidate in CandidateRanges)
        {
            _ = Ipv4Network.TryParse(candidate, out var range);
            if (IsFree(range))
            {
                if (candidate != CandidateRanges[0])
                {
                    LogOtherRange(logger, range.ToString());
                }

                return range;
            }
        }

        throw new StartupException(
            "10.200.0.0/16 to 10.219.0.0/16 all overlap routes of this host: set PANDORA_NETWORK to a free IPv4 range");
    }

    private static List<Ipv4Network> ParseRanges(string variable, string text) =>
    [
        .. text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries).Select(part =>
            Ipv4Network.TryParse(part, out var range) ? range
                : throw new StartupException($"{variable}: '{part}' is not an IPv4 address or range")),
    ];

    private static async Task<int> ReadMtuAsync(string name, CancellationToken cancellationToken)
    {
        var links = JsonNode.Parse(await Command.RunAsync("ip", ["-j", "link", "show", "dev", name], cancellationToken: cancellationToken));
        return Math.Clamp(links?[0]?["mtu"]?.GetValue<int>() ?? 1500, 576, 1500);
    }

    [LoggerMessage(
        Level = LogLevel.Warning, Message = "The host has no IPv4 resolver in {Path}: sandboxes cannot resolve names")]
    private static partial void LogNoResolver(ILogger logger, string path);

    [LoggerMessage(Level = LogLevel.Information, Message = "10.200.0.0/16 overlaps a route of this host: slots use {Range} instead")]
    private static partial void LogOtherRange(ILogger logger, string range);

    [LoggerMessage(
        Level = LogLevel.Information,
        Message = "The host's firewall drops forwarded packets: an accept rule for sandboxes was added to {Place}, and is removed when the "
            + "server stops")]
    private static partial void LogForeignAccept(ILogger logger, string place);

    [LoggerMessage(
        Level = LogLevel.Error, Message = "The host's network rules could not be undone: {Error}. The next start tries again")]
    private static partial void LogUndoFailed(ILogger logger, string error);

    [LoggerMessage(
        Level = LogLevel.Warning,
        Message = "Each guest may have only {PerSlot} connections: net.netfilter.nf_conntrack_max is {Maximum}, for up to {Slots} slots. "
            + "Raise nf_conntrack_max, or lower PANDORA_MAX_SANDBOXES")]
    private static partial void LogFewConnections(ILogger logger, long perSlot, int slots, long maximum);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "Network slot {Slot} of an earlier server could not be given this version's rules: {Error}. "
            + "Its microVM is not adopted")]
    private static partial void LogNotAdopted(ILogger logger, int slot, string error);
}
