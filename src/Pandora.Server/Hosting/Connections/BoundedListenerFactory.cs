using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Listens for the web server, on each of its addresses, with one table of connections for all. Only sockets are replaced: what a
/// connection is from its first byte on is Kestrel's.
/// </summary>
internal sealed class BoundedListenerFactory(
    ConnectionTable table, ServerOptions server, IMemoryPoolFactory<byte> pools, TimeProvider time, ILoggerFactory loggers)
    : IConnectionListenerFactory
{
    private const string TransportLog = "Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets";
    // Instead of 1 MiB: what a client sends faster than it is read is the server's memory, with a key or without.
    private const long ReadBufferBytes = 64 * 1024;
    private readonly KnownKeys _keys = new(server.Keys);

    [SuppressMessage("Reliability", "CA2000", Justification = "The web server disposes the listener that it binds")]
    public ValueTask<IConnectionListener> BindAsync(EndPoint endpoint, CancellationToken cancellationToken = default)
    {
        Socket socket;
        try
        {
            socket = SocketTransportOptions.CreateDefaultBoundListenSocket(endpoint);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
        {
            throw new AddressInUseException(e.Message, e);
        }

        return ValueTask.FromResult<IConnectionListener>(Listen(socket));
    }

    // The listener disposes the socket and the factory, once there is a listener.
    private BoundedListener Listen(Socket socket)
    {
        SocketConnectionContextFactory? factory = null;
        try
        {
            var options = new SocketConnectionFactoryOptions { MaxReadBufferSize = ReadBufferBytes };
            SetPools(options, pools);
            factory = new SocketConnectionContextFactory(options, loggers.CreateLogger(TransportLog));
            return new BoundedListener(socket, table, _keys, factory, time, loggers.CreateLogger<BoundedListener>());
        }
        catch
        {
            factory?.Dispose();
            socket.Dispose();
            throw;
        }
    }

    // The web server's own pools give memory back after a flood; those that the options begin with never do, and there is no public way
    // to name others.
    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "set_MemoryPoolFactory")]
    private static extern void SetPools(SocketConnectionFactoryOptions options, IMemoryPoolFactory<byte> pools);
}
