using System.Buffers;
using System.Net.WebSockets;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Ports;

/// <summary>
/// Copies what a client sends to a program in a guest. While the program does not read, the client's pings are answered and its close is
/// seen, as far as no bytes are before them.
/// </summary>
/// <param name="socket">The client.</param>
/// <param name="connection">The connection to the program.</param>
/// <param name="knowsEnds">Whether an empty message of the client is the end of its bytes.</param>
internal sealed class SocketToGuest(WebSocket socket, SandboxStream connection, bool knowsEnds)
{
    // Bytes that are taken at once.
    private const int PieceSize = 16 * 1024;

    private readonly TaskCompletionSource _ended = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private Task<ValueWebSocketReceiveResult> _arriving = Task.FromResult(default(ValueWebSocketReceiveResult));
    private Task _writing = Task.CompletedTask;
    private bool _hasBytes, _hasEnd;

    /// <summary>Completes when the program knows that the client sends no more bytes.</summary>
    public Task Ended => _ended.Task;

    /// <summary>What may still be under way when <see cref="RunAsync"/> has returned.</summary>
    public Task Rest => Task.WhenAll(_arriving, _writing);

    /// <summary>Copies until the client closes or breaks the protocol, or the guest takes no more.</summary>
    /// <exception cref="WebSocketException">The client is gone.</exception>
    public async Task<SocketClosing> RunAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            // Without a buffer: it waits for the next message.
            _arriving = socket.ReceiveAsync(Memory<byte>.Empty, cancellationToken).AsTask();
            await Task.WhenAny(_arriving, _writing);
            // A client that closes or is gone need not wait for a program that does not read.
            if (_arriving.IsCompleted && ClosingOf(await _arriving) is { } early)
            {
                return early;
            }

            try
            {
                await _writing;
            }
            catch (IOException e)
            {
                return SocketClosing.Broken(e);
            }

            var arrived = await _arriving;
            if (ClosingOf(arrived) is { } closing)
            {
                return closing;
            }

            if (arrived.EndOfMessage)
            {
                EndMessage(cancellationToken);
            }
            else if (await TakeAsync(cancellationToken) is { } late)
            {
                return late;
            }
        }
    }

    /// <summary>Waits until the program has been sent all that the client sent, and ends its input.</summary>
    /// <exception cref="IOException">The connection broke.</exception>
    public async Task FinishAsync(CancellationToken cancellationToken)
    {
        await _writing;
        await connection.EndWriteAsync(cancellationToken);
    }

    /// <summary>Reads on, without a use for what comes, until the client closes.</summary>
    /// <exception cref="WebSocketException">The client is gone.</exception>
    public async Task ReadToCloseAsync(CancellationToken cancellationToken)
    {
        await _arriving;
        var buffer = new byte[4096];
        while (socket.State == WebSocketState.CloseSent)
        {
            await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken);
        }
    }

    // Takes bytes of a message, and begins to write them. The result says that the client has closed, or broke the protocol.
    private async Task<SocketClosing?> TakeAsync(CancellationToken cancellationToken)
    {
        var buffer = ArrayPool<byte>.Shared.Rent(PieceSize);
        try
        {
            var taken = await socket.ReceiveAsync(buffer.AsMemory(0, PieceSize), cancellationToken);
            if (ClosingOf(taken) is { } closing)
            {
                return closing;
            }

            if (taken.Count > 0)
            {
                if (_hasEnd)
                {
                    return new SocketClosing(WebSocketCloseStatus.PolicyViolation, "bytes came after the end of the bytes");
                }

                _hasBytes = true;
                (_writing, buffer) = (WriteAsync(buffer, taken.Count, cancellationToken), null);
            }

            if (taken.EndOfMessage)
            {
                EndMessage(cancellationToken);
            }

            return null;
        }
        finally
        {
            Return(buffer);
        }
    }

    private void EndMessage(CancellationToken cancellationToken)
    {
        if (!_hasBytes && knowsEnds && !_hasEnd)
        {
            _hasEnd = true;
            _writing = EndAsync(cancellationToken);
        }

        _hasBytes = false;
    }

    private async Task WriteAsync(byte[] buffer, int count, CancellationToken cancellationToken)
    {
        try
        {
            await connection.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
        }
        finally
        {
            Return(buffer);
        }
    }

    private async Task EndAsync(CancellationToken cancellationToken)
    {
        await connection.EndWriteAsync(cancellationToken);
        _ended.TrySetResult();
    }

    private SocketClosing? ClosingOf(ValueWebSocketReceiveResult received) => received.MessageType switch
    {
        WebSocketMessageType.Close => SocketClosing.ByClient(socket.CloseStatus),
        WebSocketMessageType.Text => new SocketClosing(WebSocketCloseStatus.InvalidMessageType, "a text message: send bytes"),
        _ => null,
    };

    private static void Return(byte[]? buffer)
    {
        if (buffer is not null)
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }
}
