namespace Pandora.Engine;

/// <summary>The steps that start a microVM, in the order of their first use. Spans, metrics and messages name them.</summary>
public enum BootStep
{
    /// <summary>Find the template, before the first step of the launch.</summary>
    Template,

    /// <summary>Acquire a network slot.</summary>
    Slot,

    /// <summary>Write the record and, for a boot, the initrd of this microVM.</summary>
    Record,

    /// <summary>Copy the disk of the template, or of the snapshot.</summary>
    Disk,

    /// <summary>Start the VMM, or restore it from the snapshot.</summary>
    Vmm,

    /// <summary>Give a restored guest its identity, through its agent. Before a snapshot: check that the agent answers.</summary>
    Agent,

    /// <summary>Wait until the guest can be reached.</summary>
    Guest,

    /// <summary>Set the clock of a booted guest to the host's time.</summary>
    Clock,

    /// <summary>Run the programs that first commands need, in a restored guest and before a snapshot.</summary>
    Warmup,

    /// <summary>Write the snapshot.</summary>
    Snapshot,
}
