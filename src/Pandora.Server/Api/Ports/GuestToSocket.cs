using System.Buffers;
using System.Net.WebSockets;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Ports;

/// <summary>Copies what a program in a guest sends to a client, a message for each piece.</summary>
/// <param name="socket">The client.</param>
/// <param name="connection">The connection to the program.</param>
/// <param name="knowsEnds">Whether the client knows that an empty message is the end.</param>
internal sealed class GuestToSocket(WebSocket socket, SandboxStream connection, bool knowsEnds)
{
    /// <summary>Most bytes of a message.</summary>
    public const int PieceSize = 16 * 1024;

    private volatile bool _mustDiscard;

    /// <summary>Reads from now on without sending: the client has closed.</summary>
    public void Discard() => _mustDiscard = true;

    /// <summary>Copies to the end.</summary>
    /// <returns>Null when the program sends no more bytes.</returns>
    /// <exception cref="WebSocketException">The client is gone.</exception>
    public async Task<SocketClosing?> RunAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            byte[]? buffer = null;
            try
            {
                int count;
                try
                {
                    // It waits, and reads nothing.
                    count = await connection.ReadAsync(Memory<byte>.Empty, cancellationToken);
                    buffer = ArrayPool<byte>.Shared.Rent(PieceSize);
                    count = await connection.ReadAsync(buffer.AsMemory(0, PieceSize), cancellationToken);
                }
                catch (IOException e)
                {
                    return SocketClosing.Broken(e);
                }

                if (count > 0 || knowsEnds)
                {
                    await SendAsync(buffer.AsMemory(0, count), cancellationToken);
                }

                if (count == 0)
                {
                    return null;
                }
            }
            finally
            {
                if (buffer is not null)
                {
                    ArrayPool<byte>.Shared.Return(buffer);
                }
            }
        }
    }

    private async Task SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            if (!_mustDiscard)
            {
                await socket.SendAsync(bytes, WebSocketMessageType.Binary, endOfMessage: true, cancellationToken);
            }
        }
        catch (WebSocketException) when (_mustDiscard)
        {
            // The client closed meanwhile.
        }
    }
}
