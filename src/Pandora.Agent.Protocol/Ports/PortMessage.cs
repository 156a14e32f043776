using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Protocol.Ports;

/// <summary>
/// Kinds of messages about ports. A stream carries one request, whose first message is <see cref="Connect"/>, <see cref="Ssh"/> or
/// <see cref="List"/>; messages have the form of those about processes, and other numbers. Odd numbers go to the guest; even numbers come
/// from the guest.
/// </summary>
internal enum PortMessage : byte
{
    /// <summary>Connects to a port of the guest itself: <see cref="ConnectRequest"/>. <see cref="Opened"/> or <see cref="Failed"/>
    /// answers.</summary>
    Connect = 97,

    /// <summary>Starts the guest's SSH server for one connection: <see cref="SshRequest"/>. <see cref="Opened"/> or <see cref="Failed"/>
    /// answers.</summary>
    Ssh = 99,

    /// <summary>Asks for the ports on which programs listen, with an empty body.</summary>
    List = 101,

    /// <summary>Bytes for the program in the guest.</summary>
    Write = 103,

    /// <summary>The server sends no more bytes.</summary>
    EndWrite = 105,

    /// <summary>The connection is open: bytes may be sent both ways. The body is empty.</summary>
    Opened = 98,

    /// <summary>Bytes of the program in the guest.</summary>
    Read = 100,

    /// <summary>The program in the guest sends no more bytes. The body is empty. After it and <see cref="EndWrite"/> the stream
    /// ends.</summary>
    EndRead = 102,

    /// <summary>Answers <see cref="List"/>: one <see cref="PortEntry"/>. <see cref="Done"/> follows the last.</summary>
    Entry = 104,

    /// <summary>The list is complete. The body is empty, and the stream ends.</summary>
    Done = 106,

    /// <summary>The request was not done, or the connection broke: <see cref="PortFailure"/>. The stream ends.</summary>
    Failed = 108,
}

/// <summary>Why a request about ports was not done.</summary>
internal enum PortFailureKind : byte
{
    /// <summary>The server broke the protocol.</summary>
    Protocol = 0,

    /// <summary>No program listens on the port.</summary>
    Closed = 1,

    /// <summary>The program accepts no connection in time: its queue is full.</summary>
    Timeout = 2,

    /// <summary>The guest serves too many connections at once.</summary>
    TooMany = 3,

    /// <summary>The guest has no SSH server.</summary>
    NoSshServer = 4,

    /// <summary>The guest's kernel answered with another error, or the connection broke.</summary>
    Guest = 5,
}

/// <summary>Sizes of messages about ports.</summary>
internal static class PortMessages
{
    /// <summary>Most bytes of a body.</summary>
    public const int MaxBody = 32 * 1024;

    /// <summary>Most connections that an agent serves at once.</summary>
    public const int MaxConnections = 1024;

    /// <summary>Most entries of a list.</summary>
    public const int MaxListed = 1024;

    /// <summary>Milliseconds that the agent waits for a program to accept a connection.</summary>
    public const int ConnectMilliseconds = 5000;

    /// <summary>Writes a whole message.</summary>
    public static byte[] Encode(PortMessage kind, ReadOnlySpan<byte> body) => ProcessMessages.Encode((ProcessMessage)kind, body);

    /// <summary>Whether a message is one about ports.</summary>
    public static bool IsPort(ProcessMessage kind) => (byte)kind >= (byte)PortMessage.Connect;
}
