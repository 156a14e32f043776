using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Runtime.CompilerServices;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Makes the web server's listeners, one for each address, with one table of connections for all. Only the accepting of sockets is
/// replaced: from the first byte on, Kestrel handles the connection.
/// </summary>
internal sealed class BoundedListenerFactory(
    ConnectionTable table, Access access, IMemoryPoolFactory<byte> pools, TimeProvider time, ILoggerFactory loggers)
    : IConnectionListenerFactory
{
    private const string TransportLog = "Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets";
    // Kestrel's default is 1 MiB. What a client sends faster than the server reads it takes the server's memory, with a key or without.
    private const long ReadBufferBytes = 64 * 1024;

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

    // Once the listener exists, it owns the socket and the factory.
    private BoundedListener Listen(Socket socket)
    {
        SocketConnectionContextFactory? factory = null;
        try
        {
            var options = new SocketConnectionFactoryOptions { MaxReadBufferSize = ReadBufferBytes };
            SetPools(options, pools);
            factory = new SocketConnectionContextFactory(options, loggers.CreateLogger(TransportLog));
            return new BoundedListener(socket, table, access, factory, time, loggers.CreateLogger<BoundedListener>());
        }
        catch
        {
            factory?.Dispose();
            socket.Dispose();
            throw;
        }
    }

    // The web server's memory pools return memory after a flood; the options' default pools never do. There is no public way to set others.
    [UnsafeAccessor(UnsafeAccessorKind.Method, Name = "set_MemoryPoolFactory")]
    private static extern void SetPools(SocketConnectionFactoryOptions options, IMemoryPoolFactory<byte> pools);
}
