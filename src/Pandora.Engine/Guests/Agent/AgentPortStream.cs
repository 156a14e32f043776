using System.Buffers;
using System.Buffers.Binary;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// The server's end of a connection to a program in the guest. It keeps no bytes: a caller that does not read makes the program wait.
/// </summary>
/// <param name="stream">The stream, on which the agent has said that the connection is open.</param>
internal sealed class AgentPortStream(AgentStream stream) : GuestStream
{
    private readonly byte[] _header = new byte[ProcessMessages.HeaderSize];
    private int _rest;
    private bool _isAtEnd, _isWriteEnded;
    private volatile bool _isDisposed;

    /// <inheritdoc/>
    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (buffer.IsEmpty)
        {
            return 0;
        }

        try
        {
            while (_rest == 0 && !_isAtEnd)
            {
                await ReadHeaderAsync(cancellationToken);
            }

            if (_isAtEnd)
            {
                return 0;
            }

            var count = await stream.ReadAsync(buffer[..Math.Min(buffer.Length, _rest)], cancellationToken);
            _rest -= count > 0 ? count : throw new IOException("the guest's agent closed the stream");
            return count;
        }
        catch (Exception e) when (IsLoss(e))
        {
            throw Lost(e);
        }
    }

    /// <inheritdoc/>
    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        if (_isWriteEnded)
        {
            throw new IOException("the end of the bytes was sent before");
        }

        var message = ArrayPool<byte>.Shared.Rent(ProcessMessages.HeaderSize + Math.Min(buffer.Length, PortMessages.MaxBody));
        try
        {
            while (!buffer.IsEmpty)
            {
                var piece = buffer[..Math.Min(buffer.Length, PortMessages.MaxBody)];
                ProcessMessages.WriteHeader(message, (ProcessMessage)PortMessage.Write, piece.Length);
                piece.CopyTo(message.AsMemory(ProcessMessages.HeaderSize));
                await stream.WriteAsync(message.AsMemory(0, ProcessMessages.HeaderSize + piece.Length), cancellationToken);
                buffer = buffer[piece.Length..];
            }
        }
        catch (Exception e) when (IsLoss(e))
        {
            throw Lost(e);
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

        _isWriteEnded = true;
        try
        {
            await stream.WriteAsync(PortMessages.Encode(PortMessage.EndWrite, []), cancellationToken);
        }
        catch (Exception e) when (IsLoss(e))
        {
            throw Lost(e);
        }
    }

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing && !_isDisposed)
        {
            _isDisposed = true;
            stream.Close(mustForget: false);
        }

        base.Dispose(disposing);
    }

    private async ValueTask ReadHeaderAsync(CancellationToken cancellationToken)
    {
        await FillAsync(_header, cancellationToken);
        var length = BinaryPrimitives.ReadInt32LittleEndian(_header);
        switch ((PortMessage)_header[4])
        {
            case PortMessage.Read when length is > 0 and <= PortMessages.MaxBody:
                _rest = length;
                break;
            case PortMessage.EndRead when length == 0:
                _isAtEnd = true;
                break;
            case PortMessage.Failed when length is > 0 and <= PortMessages.MaxBody:
                var body = new byte[length];
                await FillAsync(body, cancellationToken);
                throw new BrokenException(GuestText.Printable(PortFailure.Decode(body).Reason));
            default:
                throw new FormatException($"a message {_header[4]} of {length} bytes");
        }
    }

    // Only one of the parts of a message may be cancelled by its reader: what was read of it would be lost.
    private async ValueTask FillAsync(Memory<byte> bytes, CancellationToken cancellationToken)
    {
        for (var count = 0; count < bytes.Length;)
        {
            var read = await stream.ReadAsync(bytes[count..], count == 0 ? cancellationToken : CancellationToken.None);
            count += read > 0 ? read : throw new IOException("the guest's agent closed the stream");
        }
    }

    private static bool IsLoss(Exception e) => e is FormatException or ObjectDisposedException or (IOException and not BrokenException);

    private IOException Lost(Exception e) => _isDisposed
        ? new IOException("the server has closed the connection", e)
        : new IOException(
            $"the guest's agent is lost: {GuestText.Printable(e.Message)}",
            new PandoraException(PandoraError.GuestUnreachable, $"the guest's agent is lost: {GuestText.Printable(e.Message)}"));

    // The program in the guest has closed the connection in both directions, or died. The agent lives.
    private sealed class BrokenException(string message) : IOException(message);
}
