using System.Diagnostics.CodeAnalysis;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>The network of a real host: the instance's rules, one namespace per slot, and the watch that repairs both.</summary>
[SuppressMessage("Design", "CA1001", Justification = "CloseAsync disposes of the slots and of the watch.")]
public sealed class HostNetwork : IHostNetwork
{
    private readonly HostNames _names;
    private readonly string? _range;
    private readonly NetworkRules _rules;
    private readonly SlotPool _slots;
    private readonly NetworkWatch _watch;
    private readonly Dictionary<int, string> _refused = [];

    private HostNetwork(NetworkSetup setup, NetworkRules rules)
    {
        (_names, _range, _rules) = (setup.Names, setup.Options.Network, rules);
        foreach (var slot in setup.Living)
        {
            if (SlotAt(slot.Index).Address.ToString() != slot.Address)
            {
                _refused[slot.Index] = $"its address {slot.Address} is not in this server's network {rules.Range}";
            }
            else if (!rules.IsGuarded(slot.Index))
            {
                _refused[slot.Index] = "the rules of its network namespace could not be set";
            }
        }

        var taken = setup.Living.Where(s => !_refused.ContainsKey(s.Index)).ToDictionary(s => s.Index, s => s.MicroVm);
        _slots = new SlotPool(
            rules,
            setup.Names,
            new EgressPolicy(setup.Options.DefaultEgress),
            EngineOptions.SlotsAhead,
            taken,
            setup.Time,
            setup.Loggers.CreateLogger<SlotPool>());
        _watch = new NetworkWatch(rules, setup.Meter, setup.Time, setup.Loggers.CreateLogger<NetworkWatch>());
    }

    /// <inheritdoc/>
    public Ipv4Network Range => _rules.Range;

    /// <inheritdoc/>
    public int Mtu => _rules.Mtu;

    /// <inheritdoc/>
    public int SlotCount => _slots.Count;

    /// <inheritdoc/>
    public int HeldCount => _slots.HeldCount;

    /// <inheritdoc/>
    public string? Missing => _watch.Missing;

    /// <summary>
    /// Chooses the range that a server started now would take its slots from. Ranges of other Pandora servers count as free.
    /// </summary>
    /// <exception cref="StartupException">The wanted range is not valid or overlaps a route, or no range is free.</exception>
    public static Ipv4Network ChooseRange(string? wanted) => NetworkRules.ChooseRange(wanted);

    /// <summary>Makes the host's rules and those of the living slots, and begins to watch them.</summary>
    /// <exception cref="StartupException">A range is not valid or overlaps a route, or nftables cannot be used.</exception>
    [SuppressMessage("Reliability", "CA2000", Justification = "The returned network disposes of the rules in CloseAsync.")]
    public static async Task<IHostNetwork> OpenAsync(NetworkSetup setup, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(setup);
        var logger = setup.Loggers.CreateLogger<HostNetwork>();
        var rules = await NetworkRules.CreateAsync(setup.Names, setup.Options, setup.Living, logger, cancellationToken);
        try
        {
            return new HostNetwork(setup, rules);
        }
        catch
        {
            // For example the ledger of the slots cannot be written. Living microVMs keep the rules that they have.
            await CloseAsync(rules, keep: setup.Living.Count > 0);
            throw;
        }
    }

    /// <summary>Removes everything that an earlier server made: slots, the table, accept rules and forwarding.</summary>
    public static async Task CleanUpAsync(HostNames names, EngineOptions options, CancellationToken cancellationToken)
    {
        ArgumentNullException.ThrowIfNull(names);
        ArgumentNullException.ThrowIfNull(options);
        await OrphanedSlots.RemoveAsync(names, new HashSet<int>());
        OrphanedSlots.ForgetConnections(names, options.Network, new HashSet<string>());
        using var nftables = new Nftables();
        await new ForeignFirewall(nftables, names).RemoveAsync(cancellationToken);
        nftables.Run($"table inet {names.TableName}; delete table inet {names.TableName}");
        new Forwarding(names).Restore();
        new SlotLedger(names.RunDirectory).Clear();
    }

    /// <inheritdoc/>
    public ValueTask EnsureAsync(CancellationToken cancellationToken) => _watch.EnsureAsync(cancellationToken);

    /// <inheritdoc/>
    public string? RefusalOf(int slot) => _refused.GetValueOrDefault(slot);

    /// <inheritdoc/>
    public NetworkSlot SlotAt(int slot) => NetworkSlot.At(slot, _names, _rules.Range);

    /// <inheritdoc/>
    public void Prepare() => _slots.Prepare();

    /// <inheritdoc/>
    public Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken) =>
        _slots.AcquireSlotAsync(microVm, cancellationToken);

    /// <inheritdoc/>
    public IReadOnlyList<SlotPart> PartsOf(NetworkSlot slot) =>
    [
        new(new HostResource(ResourceKind.Tracking, $"{_names.ConnectionMark}/{slot.Address}"),
            () => new ValueTask(_slots.DeleteConnectionsAsync(slot)), () => Conntrack.Exists(_names.ConnectionMark, slot.Address)),
        new(new HostResource(ResourceKind.Namespace, slot.NamespaceName),
            () => new ValueTask(_slots.DeleteNamespaceAsync(slot)), () => File.Exists(slot.NamespacePath)),
        new(new HostResource(ResourceKind.Interface, slot.InterfaceName),
            () => new ValueTask(_slots.DeleteInterfaceAsync(slot)), () => IpTool.Links().Contains(slot.InterfaceName)),
    ];

    /// <inheritdoc/>
    public void Free(NetworkSlot slot) => _slots.Free(slot);

    /// <inheritdoc/>
    public void Forget(int slot) => _slots.Forget(slot);

    /// <inheritdoc/>
    public Task SetEgressAsync(NetworkSlot slot, EgressPolicy egress) => _rules.SetEgressAsync(slot, egress);

    /// <inheritdoc/>
    public async Task RemoveOrphansAsync(IReadOnlyDictionary<int, string> living, Action<string, Exception> failed)
    {
        try
        {
            await OrphanedSlots.RemoveAsync(_names, living.Keys.ToHashSet());
        }
        catch (Exception e)
        {
            failed("network namespaces and interfaces", e);
        }

        try
        {
            await Task.Run(() => OrphanedSlots.ForgetConnections(_names, _range, living.Values.ToHashSet()));
        }
        catch (Exception e)
        {
            failed("tracked connections", e);
        }
    }

    /// <inheritdoc/>
    public IReadOnlyList<NetworkResource> List(Func<IPAddress, bool> isSlot) =>
        NetworkInventory.List(_names, _range, isSlot, _rules.ListRules());

    /// <inheritdoc/>
    public async Task CloseAsync(bool keep)
    {
        await _slots.DisposeAsync();
        await _watch.DisposeAsync();
        await CloseAsync(_rules, keep);
    }

    private static async Task CloseAsync(NetworkRules rules, bool keep)
    {
        if (keep)
        {
            rules.DetachWithoutCleanup();
            return;
        }

        await rules.DisposeAsync();
    }
}
