using System.Buffers;
using System.Buffers.Binary;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// The server's end of a connection to a program in the guest. It keeps no bytes: a caller that does not read makes the program wait. A
/// read that is cancelled loses nothing. A write that is cancelled may have sent a part, so nothing can be written after it. When the
/// program has ended its direction, the stream watches for a break by itself: a write must not wait for a program that is gone. Once both
/// directions have ended, disposing of it leaves the agent time to deliver what was written.
/// </summary>
/// <param name="stream">The stream, on which the agent has said that the connection is open.</param>
/// <param name="time">Clock of that time.</param>
internal sealed class AgentPortStream(AgentStream stream, TimeProvider time) : GuestStream
{
    /// <summary>Longest time that the agent has for what was written.</summary>
    public static readonly TimeSpan DeliveryLimit = TimeSpan.FromSeconds(30);

    // Of a message that is written, so that the pool's buffer for it is no larger.
    private const int MaxPiece = PortMessages.MaxBody - ProcessMessages.HeaderSize;

    private readonly byte[] _header = new byte[ProcessMessages.HeaderSize];
    private byte[]? _reason;
    private int _headerCount, _reasonCount, _rest;
    private bool _isWriteEnded, _isWriteCut;
    private Exception? _readFailure;
    private volatile IOException? _writeFailure;
    private readonly TaskCompletionSource _over = new(TaskCreationOptions.RunContinuationsAsynchronously);
    private int _watches;
    private volatile bool _isAtEnd, _isDisposed;

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        MustNotBeDisposed();
        if (_readFailure is not null)
        {
            throw new IOException(_readFailure.Message, _readFailure.InnerException);
        }

        try
        {
            while (_rest == 0 && !_isAtEnd)
            {
                await ReadMessageAsync(cancellationToken);
            }

            if (_isAtEnd)
            {
                Watch();
                return 0;
            }

            if (buffer.IsEmpty)
            {
                return 0;
            }

            var count = await stream.ReadAsync(buffer[..Math.Min(buffer.Length, _rest)], cancellationToken);
            _rest -= MustBeSome(count);
            return count;
        }
        catch (Exception e) when (IsLoss(e))
        {
            throw _readFailure = Lost(e);
        }
        catch (BrokenException e)
        {
            _readFailure = e;
            throw;
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        MustBeWritable(cancellationToken);
        if (_isWriteEnded)
        {
            throw new IOException("the end of the bytes was sent before");
        }

        if (buffer.IsEmpty)
        {
            return;
        }

        var message = ArrayPool<byte>.Shared.Rent(ProcessMessages.HeaderSize + Math.Min(buffer.Length, MaxPiece));
        try
        {
            while (!buffer.IsEmpty)
            {
                var piece = buffer[..Math.Min(buffer.Length, MaxPiece)];
                ProcessMessages.WriteHeader(message, (ProcessMessage)PortMessage.Write, piece.Length);
                piece.CopyTo(message.AsMemory(ProcessMessages.HeaderSize));
                await SendAsync(message.AsMemory(0, ProcessMessages.HeaderSize + piece.Length), cancellationToken);
                buffer = buffer[piece.Length..];
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(message);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask EndWriteAsync(CancellationToken cancellationToken)
    {
        if (_isWriteEnded)
        {
            return;
        }

        MustBeWritable(cancellationToken);
        _isWriteEnded = true;
        await SendAsync(PortMessages.Encode(PortMessage.EndWrite, []), cancellationToken);
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && !_isDisposed)
        {
            _isDisposed = true;
            if (_isAtEnd && _isWriteEnded && !_isWriteCut)
            {
                Watch();
                _ = DeliverAsync();
            }
            else
            {
                stream.Close(mustForget: false);
            }
        }

        base.Dispose(disposing);
    }

    private async ValueTask SendAsync(ReadOnlyMemory<byte> message, CancellationToken cancellationToken)
    {
        _isWriteCut = true;
        try
        {
            await stream.WriteAsync(message, cancellationToken);
            _isWriteCut = false;
        }
        catch (Exception e) when (IsLoss(e))
        {
            throw _writeFailure ?? Lost(e);
        }
    }

    private async Task DeliverAsync()
    {
        await _over.Task.WaitAsync(DeliveryLimit, time).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        stream.Close(mustForget: false);
    }

    private void Watch()
    {
        if (Interlocked.Exchange(ref _watches, 1) == 0)
        {
            _ = WatchAsync();
        }
    }

    // After the program's end only a break can come, or the end of the stream.
    private async Task WatchAsync()
    {
        try
        {
            _headerCount = 0;
            await ReadMessageAsync(CancellationToken.None);
            throw new FormatException("a message after the end of the bytes");
        }
        catch (Exception e) when (IsLoss(e) || e is BrokenException)
        {
            _writeFailure = e as BrokenException ?? Lost(e);
            stream.Close(mustForget: false);
        }
        finally
        {
            _over.TrySetResult();
        }
    }

    // To the bytes of a message that has some, or to the end. What was read when it is cancelled is kept for the next call.
    private async ValueTask ReadMessageAsync(CancellationToken cancellationToken)
    {
        while (_headerCount < _header.Length)
        {
            _headerCount += MustBeSome(await stream.ReadAsync(_header.AsMemory(_headerCount), cancellationToken));
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(_header);
        switch ((PortMessage)_header[4])
        {
            case PortMessage.Read when length is > 0 and <= PortMessages.MaxBody:
                (_rest, _headerCount) = (length, 0);
                break;
            case PortMessage.EndRead when length == 0:
                _isAtEnd = true;
                break;
            case PortMessage.Failed when length is > 0 and <= PortMessages.MaxBody:
                _reason ??= new byte[length];
                while (_reasonCount < length)
                {
                    _reasonCount += MustBeSome(await stream.ReadAsync(_reason.AsMemory(_reasonCount), cancellationToken));
                }

                throw new BrokenException(GuestText.Printable(PortFailure.Decode(_reason).Reason));
            default:
                throw new FormatException($"a message {_header[4]} of {length} bytes");
        }
    }

    private static int MustBeSome(int count) => count > 0 ? count : throw new IOException("the guest's agent closed the stream");

    private void MustBeWritable(CancellationToken cancellationToken)
    {
        MustNotBeDisposed();
        cancellationToken.ThrowIfCancellationRequested();
        if (_writeFailure is not null)
        {
            throw _writeFailure;
        }

        if (_isWriteCut)
        {
            throw new IOException("a write was cut off before: nothing can follow it");
        }
    }

    private void MustNotBeDisposed()
    {
        if (_isDisposed)
        {
            throw Lost(new ObjectDisposedException(GetType().Name));
        }
    }

    private static bool IsLoss(Exception e) => e is FormatException or ObjectDisposedException or (IOException and not BrokenException);

    private IOException Lost(Exception e) => _isDisposed
        ? new IOException("the server has closed the connection", e)
        : new IOException(
            $"the guest's agent is lost: {GuestText.Printable(e.Message)}",
            PandoraException.OfGuest(PandoraError.GuestUnreachable, $"the guest's agent is lost: {GuestText.Printable(e.Message)}"));

    // The program in the guest has closed the connection in both directions, or died. The agent lives.
    private sealed class BrokenException(string message) : IOException(message);
}
