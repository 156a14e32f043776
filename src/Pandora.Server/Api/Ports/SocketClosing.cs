using System.Net.WebSockets;
using Pandora.Engine;

namespace Pandora.Server.Api.Ports;

/// <summary>Why a WebSocket of bytes closes.</summary>
/// <param name="Status">The status that the server sends.</param>
/// <param name="Words">The reason that the server sends: at most 123 bytes of UTF-8.</param>
internal sealed record SocketClosing(WebSocketCloseStatus Status, string Words)
{
    // RFC 6455, section 5.5: a close has 125 bytes, 2 of which are its status.
    private const int MaxWords = 123;

    /// <summary>The program has ended the connection.</summary>
    public static SocketClosing Ended { get; } = new(WebSocketCloseStatus.NormalClosure, "the connection has ended");

    /// <summary>Whether the client has closed.</summary>
    public bool IsByClient { get; private init; }

    /// <summary>Whether what the client sent is all that it wanted to send.</summary>
    public bool IsClean { get; private init; }

    /// <summary>Whether the connection in the guest broke.</summary>
    public bool IsBroken { get; private init; }

    /// <summary>The client has closed. A client that goes away, or says that it failed, may have had more to send.</summary>
    public static SocketClosing ByClient(WebSocketCloseStatus? status) => new(WebSocketCloseStatus.NormalClosure, "the client closed")
    {
        IsByClient = true,
        IsClean = status is null or WebSocketCloseStatus.NormalClosure or WebSocketCloseStatus.Empty,
    };

    /// <summary>The connection in the guest broke, the sandbox has ended, or the server stops.</summary>
    public static SocketClosing Broken(IOException exception) => new(
        exception.InnerException is PandoraException { Error: PandoraError.ShuttingDown }
            ? WebSocketCloseStatus.EndpointUnavailable
            : WebSocketCloseStatus.InternalServerError,
        Bounded(exception.Message))
    {
        IsBroken = true,
    };

    // Cut between characters.
    private static string Bounded(string words)
    {
        var (length, bytes) = (0, 0);
        foreach (var rune in words.EnumerateRunes())
        {
            bytes += rune.Utf8SequenceLength;
            if (bytes > MaxWords)
            {
                return words[..length];
            }

            length += rune.Utf16SequenceLength;
        }

        return words;
    }
}
