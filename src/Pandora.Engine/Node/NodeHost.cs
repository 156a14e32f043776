using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Networking;
using Pandora.Engine.Templates;
using Pandora.Linux;

namespace Pandora.Engine.Node;

/// <summary>The parts of the host that a node uses, except the VMM. A fast test replaces them with fakes.</summary>
public sealed record NodeHost
{
    /// <summary>Opens the network.</summary>
    public OpenHostNetwork OpenNetwork { get; init; } = HostNetwork.OpenAsync;

    /// <summary>Removes the network resources of a server that no longer runs.</summary>
    public CleanUpHostNetwork CleanUpNetwork { get; init; } = HostNetwork.CleanUpAsync;

    /// <summary>Opens the access to guests.</summary>
    public OpenGuestAccess OpenGuests { get; init; } = GuestAccess.OpenAsync;

    /// <summary>Formats the disk of a microVM that boots in another size than its template's.</summary>
    public FormatDisk FormatDisk { get; init; } = Ext4Image.MakeDiskAsync;

    /// <summary>Reads what the host has.</summary>
    public Func<HostCapacity> ReadCapacity { get; init; } = HostCapacity.Read;

    /// <summary>
    /// The clock of the watches that check at intervals; null for the node's clock. It stands still in a test that triggers the checks.
    /// </summary>
    public TimeProvider? WatchTime { get; init; }

    /// <summary>Directory of the cgroup hierarchies.</summary>
    public string CgroupRoot { get; init; } = CgroupTree.DefaultRoot;

    /// <summary>Directory of the locks on instance ids.</summary>
    public string LockDirectory { get; init; } = Instance.LockDirectory;
}
