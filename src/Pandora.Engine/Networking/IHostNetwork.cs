using System.Diagnostics.Metrics;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Pandora.Engine.Networking;

/// <summary>The host's network as a node uses it: slots, what their guests may reach, and whether what keeps guests in is whole.</summary>
public interface IHostNetwork
{
    /// <summary>The range that slots take their addresses from.</summary>
    Ipv4Network Range { get; }

    /// <summary>The uplink's MTU, which guests are given.</summary>
    int Mtu { get; }

    /// <summary>How many slots there are in all.</summary>
    int SlotCount { get; }

    /// <summary>How many are held by microVMs, those that are being taken down counted in.</summary>
    int HeldCount { get; }

    /// <summary>What of the protection is missing; null when nothing was when it was last looked at.</summary>
    string? Missing { get; }

    /// <summary>Returns when guests are kept in.</summary>
    /// <exception cref="PandoraException">They are not, and it could not be put right.</exception>
    ValueTask EnsureAsync(CancellationToken cancellationToken);

    /// <summary>Why a slot of an earlier server cannot be used on; null when it can.</summary>
    string? RefusalOf(int slot);

    /// <summary>The slot with a number.</summary>
    NetworkSlot SlotAt(int slot);

    /// <summary>Starts making slots ahead of need.</summary>
    void Prepare();

    /// <summary>Takes a slot, ready to be used.</summary>
    /// <param name="microVm">Id of the microVM that it is for.</param>
    /// <param name="cancellationToken">Ends the making of one.</param>
    /// <exception cref="PandoraException">Every slot is in use.</exception>
    Task<NetworkSlot> AcquireSlotAsync(string microVm, CancellationToken cancellationToken);

    /// <summary>What a slot has on the host, oldest first, and how each is undone.</summary>
    IReadOnlyList<SlotPart> PartsOf(NetworkSlot slot);

    /// <summary>Lets a slot's number be used again, once nothing of it is there any more. Its VMM must have been reaped.</summary>
    void Free(NetworkSlot slot);

    /// <summary>Strikes out a slot of an earlier server of which nothing is there any more.</summary>
    void Forget(int slot);

    /// <summary>Sets what a slot's guest may reach.</summary>
    /// <exception cref="PandoraException">It could not be set.</exception>
    Task SetEgressAsync(NetworkSlot slot, Egress egress);

    /// <summary>Removes what this instance has for slots that no microVM has.</summary>
    /// <param name="living">Numbers and addresses of the slots that stay.</param>
    /// <param name="failed">Told of what could not be removed, and why. It is no reason to leave the rest.</param>
    Task RemoveOrphansAsync(IReadOnlyDictionary<int, string> living, Action<string, Exception> failed);

    /// <summary>Lists what this instance has.</summary>
    /// <param name="isSlot">Whether an address is that of a slot in use.</param>
    /// <exception cref="StartupException">The host does not let itself be looked at.</exception>
    IReadOnlyList<NetworkResource> List(Func<IPAddress, bool> isSlot);

    /// <summary>Undoes all of it, once no microVM is left.</summary>
    /// <param name="keep">Leaves all as it is instead, for guests that live on without a server.</param>
    Task CloseAsync(bool keep);
}

/// <summary>Opens the network of a node.</summary>
/// <param name="setup">What it is made of.</param>
/// <param name="cancellationToken">Ends it; nothing is left.</param>
/// <exception cref="StartupException">It cannot be; the message says what to do.</exception>
public delegate Task<IHostNetwork> OpenHostNetwork(NetworkSetup setup, CancellationToken cancellationToken);

/// <summary>Removes what a server that is gone left of its network.</summary>
public delegate Task CleanUpHostNetwork(HostNames names, EngineOptions options, CancellationToken cancellationToken);

/// <summary>What a node's network is made of.</summary>
/// <param name="Names">Names on the host.</param>
/// <param name="Options">Ranges, egress, resolvers.</param>
/// <param name="Living">Slots of microVMs of an earlier server.</param>
/// <param name="Meter">For what the watch over it counts.</param>
/// <param name="Time">For intervals and limits.</param>
/// <param name="Loggers">Where it tells what it found.</param>
public sealed record NetworkSetup(
    HostNames Names, EngineOptions Options, IReadOnlyList<LivingSlot> Living, Meter Meter, TimeProvider Time, ILoggerFactory Loggers);

/// <summary>A slot that a microVM of an earlier server has.</summary>
/// <param name="Index">Its number.</param>
/// <param name="MicroVm">The microVM's id.</param>
/// <param name="Network">The range that its address is from.</param>
/// <param name="Address">Its address.</param>
/// <param name="Egress">What its guest may reach.</param>
public sealed record LivingSlot(int Index, string MicroVm, string Network, string Address, Egress Egress);

/// <summary>One thing that a slot has on the host.</summary>
/// <param name="Resource">What.</param>
/// <param name="Undo">Undoes it; does nothing when it is not there.</param>
/// <param name="Exists">Looks whether it is there.</param>
public sealed record SlotPart(HostResource Resource, Func<ValueTask> Undo, Func<bool> Exists);

/// <summary>Kinds of what an instance has in its host's network.</summary>
public enum NetworkResourceKind
{
    /// <summary>An interface.</summary>
    Interface,

    /// <summary>A namespace.</summary>
    Namespace,

    /// <summary>A rule or table of nftables, named as the command <c>delete</c> wants it.</summary>
    Rule,

    /// <summary>Connections that the kernel tracks, named <c>mark/address</c>.</summary>
    Tracking,
}

/// <summary>One thing that an instance has in its host's network.</summary>
/// <param name="Kind">What it is.</param>
/// <param name="Name">Its name.</param>
/// <param name="Slot">Number of the slot that it is of; null when it is of none, or that is not known.</param>
/// <param name="Address">The slot's address, where that is what it is known by.</param>
public sealed record NetworkResource(NetworkResourceKind Kind, string Name, int? Slot = null, IPAddress? Address = null);
