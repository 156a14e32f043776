using System.Diagnostics;
using Pandora.Engine.Admission;
using Pandora.Engine.Guests;
using Pandora.Engine.Networking;
using Pandora.Vmm;

namespace Pandora.Engine.MicroVms;

/// <summary>One running guest with its slot, disk and connection, and the teardown that cleans them up.</summary>
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

    /// <summary>The id, 24 characters of base 36. A sandbox has the id of its microVM.</summary>
    public string Id => _file.Record.Id;

    /// <summary>Name of the template from which the microVM was started.</summary>
    public string Template => _file.Record.Template;

    /// <summary>Its size; null when an older Pandora started it.</summary>
    public MicroVmSize? Size => _file.Record.Size;

    /// <summary>The guest's public SSH host key, as SSH sends it, in base64.</summary>
    internal string HostKey => _file.Record.HostKey;

    /// <summary>How it started; null when an earlier server started it.</summary>
    public PoolStart? Start { get; init; }

    /// <summary>The client's claim, once there is one.</summary>
    public ClaimRecord? Claim => _file.Record.Claim;

    /// <summary>The network slot.</summary>
    public NetworkSlot Slot { get; }

    /// <summary>The VMM.</summary>
    public IVirtualMachine Machine { get; }

    /// <summary>The connection for commands.</summary>
    public IGuest Guest { get; }

    /// <summary>The steps that clean up the microVM.</summary>
    public Teardown Teardown { get; }

    /// <summary>The agent in the guest; null when the guest has none.</summary>
    internal GuestAgent? Agent { get; init; }

    /// <summary>The span of the boot, to which later spans link; null without tracing.</summary>
    public ActivityContext? BootTrace { get; init; }

    /// <summary>Whether the VMM runs, and the guest has not stopped and does not wait for room on the host's disk.</summary>
    public bool IsAlive => Machine is { IsRunning: true, IsStalled: false };

    /// <summary>Writes the client's claim to the record: one small file on a tmpfs.</summary>
    /// <exception cref="IOException">The record could not be written.</exception>
    public void RecordClaim(ClaimRecord claim) => _file.Write(r => r with { Claim = claim });
}
