using System.Diagnostics;
using Pandora.Engine.Guests;
using Pandora.Engine.Networking;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>One running guest with its slot, disk and connection, and the stack of what it must undo.</summary>
public sealed class MicroVm
{
    private readonly MicroVmFile _file;

    internal MicroVm(MicroVmFile file, NetworkSlot slot, IVirtualMachine machine, IGuest guest, Teardown teardown)
    {
        _file = file;
        Slot = slot;
        Machine = machine;
        Guest = guest;
        Teardown = teardown;
    }

    /// <summary>Its id, 24 characters of base 36; a sandbox has its microVM's id.</summary>
    public string Id => _file.Record.Id;

    /// <summary>Name of the template that it was started from.</summary>
    public string Template => _file.Record.Template;

    /// <summary>The client's claim, once there is one.</summary>
    public ClaimRecord? Claim => _file.Record.Claim;

    /// <summary>Its network identity.</summary>
    public NetworkSlot Slot { get; }

    /// <summary>The VMM.</summary>
    public IVirtualMachine Machine { get; }

    /// <summary>The way in.</summary>
    public IGuest Guest { get; }

    /// <summary>What it must undo.</summary>
    public Teardown Teardown { get; }

    /// <summary>The agent in its guest; null for one that has none.</summary>
    internal GuestAgent? Agent { get; init; }

    /// <summary>The span of its boot, for those that later use it to point to; null when nobody traces.</summary>
    public ActivityContext? BootTrace { get; init; }

    /// <summary>Whether its VMM runs, and its guest has neither stopped nor waits for room on the host's disk.</summary>
    public bool IsAlive => Machine is { IsRunning: true, IsStalled: false };

    /// <summary>Writes down whose it is now: one small file on a tmpfs.</summary>
    /// <exception cref="IOException">It could not be written.</exception>
    public void RecordClaim(ClaimRecord claim) => _file.Write(r => r with { Claim = claim });
}
