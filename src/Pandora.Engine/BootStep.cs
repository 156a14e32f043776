namespace Pandora.Engine;

/// <summary>The steps by which a microVM comes to be, in the order of their first use. Spans, metrics and messages name them.</summary>
public enum BootStep
{
    /// <summary>Finding the template, before the first step of the launch.</summary>
    Template,

    /// <summary>Taking a network slot.</summary>
    Slot,

    /// <summary>Writing the record and, for a boot, the machine's own initrd.</summary>
    Record,

    /// <summary>Copying the disk of the template, or of the snapshot.</summary>
    Disk,

    /// <summary>Starting the VMM, or restoring it from the snapshot.</summary>
    Vmm,

    /// <summary>Making a restored guest its own, through its agent. Before a snapshot: asking whether the agent answers.</summary>
    Agent,

    /// <summary>Waiting until the guest can be reached.</summary>
    Guest,

    /// <summary>Setting the clock of a booted guest to the host's.</summary>
    Clock,

    /// <summary>Running what first commands need, in a restored guest and before a snapshot.</summary>
    Warmup,

    /// <summary>Writing the snapshot.</summary>
    Snapshot,
}
