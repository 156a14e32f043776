using System.Collections.Concurrent;
using System.Net;
using Pandora.Engine;
using Pandora.Engine.Networking;

namespace Pandora.Fakes;

/// <summary>A fake network of a host, which only counts slots. Its state outlives the node, as on a real host.</summary>
internal sealed class FakeNetwork
{
    private readonly ConcurrentDictionary<int, string> _held = new();
    private readonly ConcurrentDictionary<IPAddress, string> _namespaces = new();

    /// <summary>Error that refuses every claim; null when claims are allowed.</summary>
    public Exception? ClaimRefusal { get; set; }

    /// <summary>The missing part of the network rules; null when none is missing.</summary>
    public string? Missing { get; set; }

    /// <summary>Reasons why slots of an earlier node cannot be adopted, by slot number.</summary>
    public Dictionary<int, string> Refused { get; } = [];

    /// <summary>Called before an egress is set; it may fail, or take its time.</summary>
    public Func<string, EgressPolicy, Task> OnEgress { get; set; } = (_, _) => Task.CompletedTask;

    /// <summary>What was set, by microVM.</summary>
    public ConcurrentDictionary<string, EgressPolicy> Policies { get; } = [];

    /// <summary>What was set where no range applies, by microVM.</summary>
    public IReadOnlyDictionary<string, Egress> Egresses => Policies.ToDictionary(p => p.Key, p => p.Value.Default);

    /// <summary>The microVM that holds each slot, by slot number.</summary>
    public IReadOnlyDictionary<int, string> Held => _held;

    /// <summary>Whether a part of a slot remains when it is cleaned up.</summary>
    public bool PartsStay { get; set; }

    /// <summary>Path of the namespace of the slot with an address.</summary>
    public string NamespaceOf(IPAddress address) => _namespaces[address];

    /// <summary>How often a node kept everything when it closed the network, and how often it cleaned up everything.</summary>
    public (int Kept, int CleanedUp) Closed { get; private set; }

    public Task<IHostNetwork> OpenAsync(NetworkSetup setup, CancellationToken cancellationToken)
    {
        foreach (var slot in setup.Living.Where(s => !Refused.ContainsKey(s.Index)))
        {
            _held[slot.Index] = slot.MicroVm;
            Policies[slot.MicroVm] = slot.Egress;
        }

        return Task.FromResult<IHostNetwork>(new Open(this, setup.Names));
    }

    public Task CleanUpAsync(HostNames names, EngineOptions options, CancellationToken cancellationToken)
    {
        _held.Clear();
        return Task.CompletedTask;
    }

    private sealed class Open(FakeNetwork host, HostNames names) : IHostNetwork
    {
        // A teardown of a stopped node may end when the next node has given the slot to another microVM. It frees only its own.
        private readonly ConcurrentDictionary<int, string> _own = new(host._held);

        public Ipv4Network Range { get; } =
            Ipv4Network.TryParse("10.200.0.0/16", out var range) ? range : throw new InvalidOperationException();

        public int Mtu => 1500;

        public int SlotCount => 1024;

        public int HeldCount => host._held.Count;

        public string? Missing => host.Missing;

        public ValueTask EnsureAsync(CancellationToken cancellationToken) => host.ClaimRefusal is { } refusal ? throw refusal : default;

        public string? RefusalOf(int slot) => host.Refused.GetValueOrDefault(slot);

        public NetworkSlot SlotAt(int slot)
        {
            var made = NetworkSlot.At(slot, names, Range);
            host._namespaces[made.Address] = made.NamespacePath;
            return made;
        }

        public void Prepare()
        {
            // The fake has nothing to prepare.
        }

        public Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken)
        {
            var slot = 0;
            while (!host._held.TryAdd(slot, microVm))
            {
                slot++;
            }

            _own[slot] = microVm;
            return Task.FromResult(SlotAt(slot));
        }

        public IReadOnlyList<SlotPart> PartsOf(NetworkSlot slot)
        {
            var exists = true;
            return
            [
                new(new HostResource(ResourceKind.Namespace, slot.NamespaceName), () =>
                {
                    exists = host.PartsStay;
                    return ValueTask.CompletedTask;
                }, () => exists),
            ];
        }

        public void Free(NetworkSlot slot) => Forget(slot.Index);

        public void Forget(int slot)
        {
            if (_own.TryRemove(slot, out var microVm))
            {
                host._held.TryRemove(new(slot, microVm));
            }
        }

        public async Task SetEgressAsync(NetworkSlot slot, EgressPolicy egress)
        {
            await host.OnEgress(host._held[slot.Index], egress);
            // Read again: a slot that was given away meanwhile would get the egress of another microVM.
            host.Policies[host._held[slot.Index]] = egress;
        }

        public Task RemoveOrphansAsync(IReadOnlyDictionary<int, string> living, Action<string, Exception> failed)
        {
            foreach (var orphan in host._held.Keys.Where(k => !living.ContainsKey(k)))
            {
                host._held.TryRemove(orphan, out _);
            }

            return Task.CompletedTask;
        }

        public IReadOnlyList<NetworkResource> List(Func<IPAddress, bool> isSlot) =>
            [.. host._held.Keys.Select(s => new NetworkResource(NetworkResourceKind.Namespace, SlotAt(s).NamespaceName, s))];

        public Task CloseAsync(bool keep)
        {
            var (kept, cleanedUp) = host.Closed;
            host.Closed = keep ? (kept + 1, cleanedUp) : (kept, cleanedUp + 1);
            return Task.CompletedTask;
        }
    }
}
