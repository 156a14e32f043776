using System.Diagnostics.CodeAnalysis;
using System.Net.WebSockets;

namespace Pandora.Client;

/// <summary>
/// A connection to a port of a sandbox, or to its SSH server: bytes both ways, as with TCP. One thread may read while another writes.
/// <see cref="EndWriteAsync"/> ends this side's direction and leaves the other; reading returns 0 when the other side has ended its own.
/// Disposing closes both. A read or a write that is cancelled breaks the connection. Members are virtual, so that a test can replace them.
/// </summary>
[SuppressMessage("ApiDesign", "RS0027", Justification = "The overloads are those of the base class")]
public class PortStream : Stream
{
    // A write is sent in messages of at most this: each is copied once, to be masked.
    private const int MaxMessage = 64 * 1024;
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(2);
    private readonly WebSocket? _socket;
    private readonly TimeProvider _time = TimeProvider.System;
    private string? _failure;
    private bool _messageHasBytes, _isReadEnded;
    private int _isWriteEnded, _isDisposed;

    internal PortStream(WebSocket socket, TimeProvider time) => (_socket, _time) = (socket, time);

    /// <summary>For a class of a test that replaces members. The others throw <see cref="NotSupportedException"/>.</summary>
    protected PortStream()
    {
    }

    /// <inheritdoc/>
    public override bool CanRead => _isDisposed == 0;

    /// <inheritdoc/>
    public override bool CanSeek => false;

    /// <inheritdoc/>
    public override bool CanWrite => _isDisposed == 0 && _isWriteEnded == 0;

    /// <inheritdoc/>
    public override long Length => throw new NotSupportedException();

    /// <inheritdoc/>
    public override long Position { get => throw new NotSupportedException(); set => throw new NotSupportedException(); }

    private WebSocket Socket =>
        _socket ?? throw new NotSupportedException("this stream has no connection: replace the member in your test");

    /// <summary>Reads what has come, and waits for at least one byte.</summary>
    /// <param name="buffer">Where to; an empty buffer waits until there is something to read.</param>
    /// <param name="cancellationToken">Ends the wait, and breaks the connection.</param>
    /// <returns>Number of bytes; 0 when the other side has ended its direction.</returns>
    /// <exception cref="IOException">The connection broke, or the sandbox ended; the message says why.</exception>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        var socket = Socket;
        ObjectDisposedException.ThrowIf(_isDisposed != 0, this);
        while (!_isReadEnded)
        {
            ThrowIfFailed();
            ValueWebSocketReceiveResult result;
            try
            {
                result = await socket.ReceiveAsync(buffer, cancellationToken).ConfigureAwait(false);
            }
            catch (Exception e) when (IsBreak(e, cancellationToken))
            {
                throw Broken(e);
            }

            switch (result.MessageType)
            {
                case WebSocketMessageType.Close:
                    await EndAsync(socket).ConfigureAwait(false);
                    continue;
                case WebSocketMessageType.Text:
                    _failure = "the server's answer was not understood: text came where only bytes may";
                    socket.Abort();
                    continue;
            }

            // A message without any bytes is the end. One that has some may still end with a part that has none.
            var isEmpty = result is { Count: 0, EndOfMessage: true } && !_messageHasBytes;
            _messageHasBytes = !result.EndOfMessage && (_messageHasBytes || result.Count > 0);
            _isReadEnded = isEmpty;
            if (result.Count > 0 || buffer.IsEmpty)
            {
                return result.Count;
            }
        }

        return 0;
    }

    /// <inheritdoc/>
    public override Task<int> ReadAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        ReadAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override int Read(byte[] buffer, int offset, int count) =>
        ReadAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

    /// <summary>Writes all bytes. It waits while the other side does not take them.</summary>
    /// <param name="buffer">The bytes.</param>
    /// <param name="cancellationToken">Ends the wait, and breaks the connection.</param>
    /// <exception cref="IOException">The connection broke, or the sandbox ended.</exception>
    /// <exception cref="InvalidOperationException">The direction was ended.</exception>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        _ = Socket;
        ObjectDisposedException.ThrowIf(_isDisposed != 0, this);
        if (_isWriteEnded != 0)
        {
            throw new InvalidOperationException("this side's direction was ended");
        }

        while (buffer.Length > 0)
        {
            var length = Math.Min(buffer.Length, MaxMessage);
            await SendAsync(buffer[..length], cancellationToken).ConfigureAwait(false);
            buffer = buffer[length..];
        }
    }

    /// <inheritdoc/>
    public override Task WriteAsync(byte[] buffer, int offset, int count, CancellationToken cancellationToken) =>
        WriteAsync(buffer.AsMemory(offset, count), cancellationToken).AsTask();

    /// <inheritdoc/>
    public override void Write(byte[] buffer, int offset, int count) =>
        WriteAsync(buffer.AsMemory(offset, count)).AsTask().GetAwaiter().GetResult();

    /// <summary>
    /// Says that this side sends no more, as <c>shutdown(SHUT_WR)</c> does: the program in the guest reads the end, and can still answer.
    /// It may be repeated.
    /// </summary>
    /// <param name="cancellationToken">Ends the wait, and breaks the connection.</param>
    /// <exception cref="IOException">The connection broke, or the sandbox ended.</exception>
    public virtual async Task EndWriteAsync(CancellationToken cancellationToken = default)
    {
        _ = Socket;
        ObjectDisposedException.ThrowIf(_isDisposed != 0, this);
        if (Interlocked.Exchange(ref _isWriteEnded, 1) == 0)
        {
            await SendAsync(ReadOnlyMemory<byte>.Empty, cancellationToken).ConfigureAwait(false);
        }
    }

    /// <inheritdoc/>
    public override void Flush()
    {
    }

    /// <inheritdoc/>
    public override Task FlushAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    /// <inheritdoc/>
    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    /// <inheritdoc/>
    public override void SetLength(long value) => throw new NotSupportedException();

    /// <summary>Closes the connection. It waits for at most two seconds.</summary>
    public override async ValueTask DisposeAsync()
    {
        await CloseAsync().ConfigureAwait(false);
        await base.DisposeAsync().ConfigureAwait(false);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the connection, and waits for nothing.</summary>
    /// <param name="disposing">Whether <see cref="Stream.Dispose()"/> was called.</param>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _ = CloseAsync();
        }

        base.Dispose(disposing);
    }

    private async Task SendAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        ThrowIfFailed();
        try
        {
            await Socket.SendAsync(bytes, WebSocketMessageType.Binary, endOfMessage: true, cancellationToken).ConfigureAwait(false);
        }
        catch (Exception e) when (IsBreak(e, cancellationToken))
        {
            throw Broken(e);
        }
    }

    private void ThrowIfFailed()
    {
        if (_failure is { } failure)
        {
            throw new PortStreamException(failure);
        }
    }

    private static bool IsBreak(Exception exception, CancellationToken cancellationToken) =>
        exception is WebSocketException or IOException or ObjectDisposedException or InvalidOperationException
        || (exception is OperationCanceledException && !cancellationToken.IsCancellationRequested);

    private Exception Broken(Exception cause) => _isDisposed != 0
        ? new ObjectDisposedException(GetType().FullName, cause)
        : new PortStreamException(_failure ?? $"the connection to the sandbox broke: {cause.Message}", cause);

    // The server has closed the connection, in order or with a reason.
    private async Task EndAsync(WebSocket socket)
    {
        if (socket.CloseStatus == WebSocketCloseStatus.NormalClosure)
        {
            _isReadEnded = true;
        }
        else
        {
            _failure = string.IsNullOrWhiteSpace(socket.CloseStatusDescription)
                ? $"the server closed the connection to the sandbox, with status {(int?)socket.CloseStatus}"
                : socket.CloseStatusDescription;
        }

        await SayCloseAsync(socket).ConfigureAwait(false);
    }

    private async Task CloseAsync()
    {
        if (Interlocked.Exchange(ref _isDisposed, 1) == 0 && _socket is { } socket)
        {
            await SayCloseAsync(socket).ConfigureAwait(false);
            socket.Dispose();
        }
    }

    private async Task SayCloseAsync(WebSocket socket)
    {
        if (socket.State is not (WebSocketState.Open or WebSocketState.CloseReceived))
        {
            return;
        }

        using var limit = new CancellationTokenSource(CloseLimit, _time);
        try
        {
            await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, limit.Token).ConfigureAwait(false);
        }
        catch (Exception e) when (e is WebSocketException or IOException or OperationCanceledException or ObjectDisposedException)
        {
            // The connection is broken already.
        }
    }
}

/// <summary>A connection to a sandbox broke, or its sandbox ended: the message says why.</summary>
internal sealed class PortStreamException(string message, Exception? innerException = null) : IOException(message, innerException);
