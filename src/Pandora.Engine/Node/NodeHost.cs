using Pandora.Engine.Guests;
using Pandora.Engine.Networking;
using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>What a node uses of its host besides the VMM. A fast test puts fakes in its place.</summary>
public sealed record NodeHost
{
    /// <summary>Opens the network.</summary>
    public OpenHostNetwork OpenNetwork { get; init; } = HostNetwork.OpenAsync;

    /// <summary>Removes what a server that is gone left of its network.</summary>
    public CleanUpHostNetwork CleanUpNetwork { get; init; } = HostNetwork.CleanUpAsync;

    /// <summary>Opens the way to guests.</summary>
    public OpenGuestAccess OpenGuests { get; init; } = GuestAccess.OpenSshAsync;

    /// <summary>The clock of the watches that look at intervals; null for the node's. In a test that asks them itself it stands
    /// still.</summary>
    public TimeProvider? WatchTime { get; init; }

    /// <summary>Where the cgroup hierarchies are.</summary>
    public string CgroupRoot { get; init; } = CgroupTree.DefaultRoot;

    /// <summary>Where the locks of the instances' names are.</summary>
    public string LockDirectory { get; init; } = Instance.LockDirectory;
}
