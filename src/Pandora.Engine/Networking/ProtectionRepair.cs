namespace Pandora.Engine.Networking;

/// <summary>What keeps guests in, or gives them their way out, and is put back where another program has removed it.</summary>
public enum ProtectionRepair
{
    /// <summary>The host's table.</summary>
    HostTable,

    /// <summary>The rules in a slot's namespace.</summary>
    SlotRules,

    /// <summary>The host's forwarding.</summary>
    Forwarding,

    /// <summary>An accept of ours in the chain of another firewall.</summary>
    ForeignAccept,
}
