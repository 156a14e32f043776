using System.Net;
using System.Net.Sockets;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Fakes;

/// <summary>A connection to a real listener, which plays a program in a guest.</summary>
internal sealed class FakePortStream : GuestStream
{
    private readonly FakeLink _link;
    private readonly Socket _socket;

    private FakePortStream(FakeLink link, Socket socket)
    {
        (_link, _socket) = (link, socket);
        link.Closed += _socket.Dispose;
    }

    public static async Task<GuestStream> OpenAsync(FakeLink link, IPEndPoint address, CancellationToken cancellationToken)
    {
        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        try
        {
            await socket.ConnectAsync(address, cancellationToken);
            return new FakePortStream(link, socket);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            return await _socket.ReceiveAsync(buffer, cancellationToken);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw Broken(e);
        }
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        try
        {
            while (!buffer.IsEmpty)
            {
                buffer = buffer[await _socket.SendAsync(buffer, cancellationToken)..];
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw Broken(e);
        }
    }

    public override ValueTask EndWriteAsync(CancellationToken cancellationToken)
    {
        try
        {
            _socket.Shutdown(SocketShutdown.Send);
            return ValueTask.CompletedTask;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            throw Broken(e);
        }
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _link.Closed -= _socket.Dispose;
            _socket.Dispose();
        }

        base.Dispose(disposing);
    }

    private IOException Broken(Exception e) =>
        _link.IsDead ? new IOException("the guest's agent is lost", FakeLink.Lost()) : new IOException(e.Message, e);
}
