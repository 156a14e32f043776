namespace Pandora.Engine;

/// <summary>What a connection to a program in a guest is for.</summary>
public enum PortUse
{
    /// <summary>A client that asked for the port.</summary>
    Connect,

    /// <summary>A preview.</summary>
    Preview,

    /// <summary>A client that logs in by SSH.</summary>
    Ssh,
}

/// <summary>Directions of the bytes over a connection to a program in a guest.</summary>
public enum PortDirection
{
    /// <summary>From the client to the guest.</summary>
    ToGuest,

    /// <summary>From the guest to the client.</summary>
    FromGuest,
}
