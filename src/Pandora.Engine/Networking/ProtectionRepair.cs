namespace Pandora.Engine.Networking;

/// <summary>Kinds of network rules that are repaired when another program has removed or changed them.</summary>
public enum ProtectionRepair
{
    /// <summary>The host's table.</summary>
    HostTable,

    /// <summary>The rules in a slot's namespace.</summary>
    SlotRules,

    /// <summary>The host's forwarding.</summary>
    Forwarding,

    /// <summary>Pandora's accept rule in the chain of another firewall.</summary>
    ForeignAccept,
}
