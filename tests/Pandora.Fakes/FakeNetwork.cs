using System.Collections.Concurrent;
using System.Net;
using Pandora.Engine;
using Pandora.Engine.Networking;

namespace Pandora.Fakes;

/// <summary>A host's network that is only numbers. What it holds outlives the node, as a host's does.</summary>
internal sealed class FakeNetwork
{
    private readonly ConcurrentDictionary<int, string> _held = new();
    private readonly ConcurrentDictionary<IPAddress, string> _namespaces = new();

    /// <summary>Why no microVM is handed out; null when nothing is against it.</summary>
    public Exception? ClaimRefusal { get; set; }

    /// <summary>What of the protection is missing.</summary>
    public string? Missing { get; set; }

    /// <summary>Why slots of an earlier node cannot be used on, by their numbers.</summary>
    public Dictionary<int, string> Refused { get; } = [];

    /// <summary>What guests may reach, by their microVMs, where it was set.</summary>
    public ConcurrentDictionary<string, Egress> Egresses { get; } = [];

    /// <summary>Slots that are held, and by which microVMs.</summary>
    public IReadOnlyDictionary<int, string> Held => _held;

    /// <summary>Whether a part of a slot stays when it is undone.</summary>
    public bool PartsStay { get; set; }

    /// <summary>The namespace of the slot that has an address.</summary>
    public string NamespaceOf(IPAddress address) => _namespaces[address];

    /// <summary>How often a node left all as it was, and undid all.</summary>
    public (int Left, int Undone) Closed { get; private set; }

    public Task<IHostNetwork> OpenAsync(NetworkSetup setup, CancellationToken cancellationToken)
    {
        foreach (var slot in setup.Living.Where(s => !Refused.ContainsKey(s.Index)))
        {
            _held[slot.Index] = slot.MicroVm;
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
            // There is nothing to make.
        }

        public Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken)
        {
            var slot = 0;
            while (!host._held.TryAdd(slot, microVm))
            {
                slot++;
            }

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

        public void Free(NetworkSlot slot) => host._held.TryRemove(slot.Index, out _);

        public void Forget(int slot) => host._held.TryRemove(slot, out _);

        public Task SetEgressAsync(NetworkSlot slot, Egress egress)
        {
            host.Egresses[host._held[slot.Index]] = egress;
            return Task.CompletedTask;
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
            host.Closed = keep ? (host.Closed.Left + 1, host.Closed.Undone) : (host.Closed.Left, host.Closed.Undone + 1);
            return Task.CompletedTask;
        }
    }
}
