using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>The host's network as a node uses it: slots, what their guests may reach, and whether the isolation rules are
/// complete.</summary>
public interface IHostNetwork
{
    /// <summary>The range that slots take their addresses from.</summary>
    Ipv4Network Range { get; }

    /// <summary>The uplink's MTU, which guests use as well.</summary>
    int Mtu { get; }

    /// <summary>Number of slots in all.</summary>
    int SlotCount { get; }

    /// <summary>Number of slots that microVMs hold, including slots that are being cleaned up.</summary>
    int HeldCount { get; }

    /// <summary>Which part of the isolation rules is missing; null when they were complete at the last check.</summary>
    string? Missing { get; }

    /// <summary>Checks the isolation rules, and repairs them if they are incomplete.</summary>
    /// <exception cref="PandoraException">They are incomplete and could not be repaired.</exception>
    ValueTask EnsureAsync(CancellationToken cancellationToken);

    /// <summary>Why this server cannot adopt a slot of an earlier server; null when it can.</summary>
    string? RefusalOf(int slot);

    /// <summary>Returns the slot with a number.</summary>
    NetworkSlot SlotAt(int slot);

    /// <summary>Starts making slots ahead of need.</summary>
    void Prepare();

    /// <summary>Acquires a slot that is ready for use.</summary>
    /// <param name="microVm">Id of the microVM that the slot is for.</param>
    /// <param name="cancellationToken">Stops the making of a slot.</param>
    /// <exception cref="PandoraException">Every slot is in use.</exception>
    Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken);

    /// <summary>Lists a slot's resources on the host, oldest first, and how each is removed.</summary>
    IReadOnlyList<SlotPart> PartsOf(NetworkSlot slot);

    /// <summary>Releases a slot's number once no resource of the slot remains. The slot's VMM must have been reaped.</summary>
    void Free(NetworkSlot slot);

    /// <summary>Removes a slot of an earlier server from the ledger, once no resource of the slot remains.</summary>
    void Forget(int slot);

    /// <summary>Sets what a slot's guest may reach. A guest that loses any of it loses all connections that it has open. No later microVM
    /// may hold the slot yet.</summary>
    /// <exception cref="PandoraException">It could not be set. As soon as the rules can be written, a guest that was only to get more has
    /// what it had, and any other guest has what was asked for.</exception>
    Task SetEgressAsync(NetworkSlot slot, EgressPolicy egress);

    /// <summary>Removes this instance's resources of slots that no microVM holds.</summary>
    /// <param name="living">Numbers and addresses of the slots that stay.</param>
    /// <param name="failed">Called with each kind that could not be removed, and the error. The other kinds are removed all the
    /// same.</param>
    Task RemoveOrphansAsync(IReadOnlyDictionary<int, string> living, Action<string, Exception> failed);

    /// <summary>Lists this instance's resources in the host's network.</summary>
    /// <param name="isSlot">Whether an address is the address of a slot in use.</param>
    /// <exception cref="StartupException">The host could not be scanned.</exception>
    IReadOnlyList<NetworkResource> List(Func<IPAddress, bool> isSlot);

    /// <summary>Removes all rules and slots, once no microVM exists.</summary>
    /// <param name="keep">Leaves everything as it is instead, for guests that continue without a server.</param>
    Task CloseAsync(bool keep);
}

/// <summary>Opens the network of a node.</summary>
/// <param name="setup">What the network is made of.</param>
/// <param name="cancellationToken">Cancels the opening; nothing of it remains.</param>
/// <exception cref="StartupException">The network cannot be set up; the message says what to do.</exception>
public delegate Task<IHostNetwork> OpenHostNetwork(NetworkSetup setup, CancellationToken cancellationToken);

/// <summary>Removes everything that an earlier server made in the host's network.</summary>
public delegate Task CleanUpHostNetwork(HostNames names, EngineOptions options, CancellationToken cancellationToken);

/// <summary>What a node's network is made of.</summary>
/// <param name="Names">The instance's names on the host.</param>
/// <param name="Options">Ranges, egress, resolvers.</param>
/// <param name="Living">Slots of microVMs of an earlier server.</param>
/// <param name="Meter">Meter for the watch's metrics.</param>
/// <param name="Time">Clock of the intervals and limits.</param>
/// <param name="Loggers">Receives the logs.</param>
public sealed record NetworkSetup(
    HostNames Names, EngineOptions Options, IReadOnlyList<LivingSlot> Living, Meter Meter, TimeProvider Time, ILoggerFactory Loggers);

/// <summary>A slot that a microVM of an earlier server holds.</summary>
/// <param name="Index">Number of the slot.</param>
/// <param name="MicroVm">The microVM's id.</param>
/// <param name="Network">The range that the slot's address is from.</param>
/// <param name="Address">The slot's address.</param>
/// <param name="Egress">What the guest may reach.</param>
public sealed record LivingSlot(int Index, string MicroVm, string Network, string Address, EgressPolicy Egress);

/// <summary>One resource of a slot on the host.</summary>
/// <param name="Resource">Kind and name.</param>
/// <param name="Undo">Removes the resource; does nothing when it does not exist.</param>
/// <param name="Exists">Checks whether the resource exists.</param>
public sealed record SlotPart(HostResource Resource, Func<ValueTask> Undo, Func<bool> Exists);

/// <summary>Kinds of an instance's resources in the host's network.</summary>
public enum NetworkResourceKind
{
    /// <summary>An interface.</summary>
    Interface,

    /// <summary>A namespace.</summary>
    Namespace,

    /// <summary>A rule or table of nftables, named as the command <c>delete</c> takes it.</summary>
    Rule,

    /// <summary>Connections that the kernel tracks, named <c>mark/address</c>.</summary>
    Tracking,
}

/// <summary>One resource of an instance in the host's network.</summary>
/// <param name="Kind">Kind of the resource.</param>
/// <param name="Name">Name of the resource.</param>
/// <param name="Slot">Number of its slot; null when it has none, or when the slot is not known.</param>
/// <param name="Address">The slot's address, if the resource is known by that address.</param>
public sealed record NetworkResource(NetworkResourceKind Kind, string Name, int? Slot = null, IPAddress? Address = null);
