using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Accepts connections within bounds. For each connection: 1. accept it; 2. make room for it, or refuse it; 3. wait for its first byte;
/// 4. pass it to the web server. No failure of one connection ends the loop. Kestrel's transport is replaced because it tries again without
/// a pause while there are no descriptors.
/// </summary>
internal sealed partial class BoundedListener : IConnectionListener
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan ClosingLimit = TimeSpan.FromMilliseconds(250);
    // The kernel's default bound (net.core.somaxconn). Connections that come faster than they are accepted wait in this queue. Without it
    // the kernel drops them, and clients try again after a second.
    private const int Backlog = 4096;
    // Connections that are accepted without a pause before other work gets the thread.
    private const int InARow = 16;
    private const int ShedAtOnce = 16;
    // The web server reads longer headers too; here they only do not count as complete.
    private const int PeekedBytes = 4096;
    private readonly Socket _socket;
    private readonly ConnectionTable _table;
    private readonly Access _access;
    private readonly SocketConnectionContextFactory _factory;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    // Without a bound: the table bounds the connections.
    private readonly Channel<ConnectionContext> _ready = Channel.CreateUnbounded<ConnectionContext>();
    private readonly CancellationTokenSource _end = new();
    private readonly Task _accepting;
    private long? _logged;

    public BoundedListener(
        Socket socket, ConnectionTable table, Access access, SocketConnectionContextFactory factory, TimeProvider time, ILogger logger)
    {
        _socket = socket;
        _table = table;
        _access = access;
        _factory = factory;
        _time = time;
        _logger = logger;
        EndPoint = socket.LocalEndPoint!;
        socket.Listen(Backlog);
        _accepting = Task.Run(AcceptAllAsync);
    }

    public EndPoint EndPoint { get; }

    public async ValueTask<ConnectionContext?> AcceptAsync(CancellationToken cancellationToken = default)
    {
        while (await _ready.Reader.WaitToReadAsync(cancellationToken))
        {
            if (_ready.Reader.TryRead(out var connection))
            {
                return connection;
            }
        }

        return null;
    }

    public async ValueTask UnbindAsync(CancellationToken cancellationToken = default)
    {
        if (!_end.IsCancellationRequested)
        {
            await _end.CancelAsync();
        }

        _socket.Dispose();
        // This ends at once, because the loop awaits only the token and the socket. The caller's token is ignored: it may be cancelled
        // already, and the loop would outlive the listener.
        await _accepting;
        _table.CloseSilent();
        _ready.Writer.TryComplete();
    }

    public async ValueTask DisposeAsync()
    {
        await UnbindAsync();
        while (_ready.Reader.TryRead(out var connection))
        {
            connection.Abort();
            await connection.DisposeAsync();
        }

        _end.Dispose();
        _factory.Dispose();
    }

    private async Task AcceptAllAsync()
    {
        for (var i = 1; !_end.IsCancellationRequested; i++)
        {
            try
            {
                await AcceptOneAsync();
                if (i % InARow == 0)
                {
                    await Task.Yield();
                }
            }
            catch (Exception) when (_end.IsCancellationRequested)
            {
                return;
            }
            catch (SocketException e) when (e.SocketErrorCode is SocketError.ConnectionReset or SocketError.ConnectionAborted)
            {
                // The connection was reset while it waited to be accepted.
            }
            catch (Exception e)
            {
                // accept(2): the system or this process has no descriptors left, or a firewall forbids the connection. Listening continues.
                LogAtMostOnceAMinute(e);
                _table.Shed(ShedAtOnce);
                await PauseAsync();
            }
        }
    }

    private async Task AcceptOneAsync()
    {
        var socket = await _socket.AcceptAsync(_end.Token);
        try
        {
            if (AreDescriptorsShort(socket) && _table.Counts.Unadmitted > ShedAtOnce)
            {
                // Two for each new connection, so that the shortage ends.
                _table.Shed(2);
            }

            var address = ((IPEndPoint)socket.RemoteEndPoint!).Address;
            var tracked = _table.TryAdd(
                address, () => TrackedConnection.Reset(socket), () => HasUnread(socket), () => HasUnreadKey(socket));
            if (tracked is not null)
            {
                _ = PassWhenReadableAsync(socket, tracked);
            }
            else
            {
                TrackedConnection.Reset(socket);
            }
        }
        catch (Exception e)
        {
            // The failure concerns this connection only. There is no pause, because a client could cause it.
            LogAtMostOnceAMinute(e);
            TrackedConnection.Reset(socket);
        }

        await _table.WaitForRoomAsync(ClosingLimit);
    }

    private static bool HasUnread(Socket socket)
    {
        try
        {
            return socket.Available > 0;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The socket is closed already.
            return false;
        }
    }

    private bool HasUnreadKey(Socket socket)
    {
        try
        {
            return TryPeek(socket, out _, out var hasKey) && hasKey;
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }
    }

    // open(2), accept(2): a new descriptor is the lowest free number. So a high number means that nearly all lower ones are in use.
    private static bool AreDescriptorsShort(Socket socket) =>
        (long)socket.SafeHandle.DangerousGetHandle() >= Descriptors.Limit - ConnectionLimits.Margin;

    private async Task PassWhenReadableAsync(Socket socket, TrackedConnection tracked)
    {
        ConnectionContext? context = null;
        try
        {
            socket.NoDelay = true;
            // A read of no bytes: it ends when a byte has come, or when none can come any more.
            await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None);
            if (TryPeek(socket, out var isAsking, out var hasKey))
            {
                context = _factory.Create(socket);
                context.Features.Set<IAdmission>(tracked);
                if (_table.Start(tracked, context, isAsking, hasKey) && TryPass(context, tracked))
                {
                    return;
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The connection was reset, by the client or by the table.
        }
        catch (Exception e)
        {
            LogAtMostOnceAMinute(e);
        }

        TrackedConnection.Reset(socket);
        if (context is not null)
        {
            await context.DisposeAsync();
        }

        _table.Closed(tracked);
    }

    [SuppressMessage(
        "Reliability", "CA2000", Justification = "The web server disposes what it accepts; of the rest the caller disposes the context")]
    private bool TryPass(ConnectionContext context, TrackedConnection tracked) =>
        _ready.Writer.TryWrite(new BoundedConnection(context, _table, tracked));

    // Returns false if the client has closed the connection without sending a byte. The bytes stay in the socket for the web server.
    private bool TryPeek(Socket socket, out bool isAsking, out bool hasKey)
    {
        Span<byte> head = stackalloc byte[PeekedBytes];
        socket.Blocking = false;
        head = head[..socket.Receive(head, SocketFlags.Peek)];
        var end = head.IndexOf("\r\n\r\n"u8);
        isAsking = end >= 0;
        hasKey = isAsking && _access.Knows(ShownKey.Of(head[..end]));
        return head.Length > 0;
    }

    private async Task PauseAsync()
    {
        try
        {
            await Task.Delay(Pause, _time, _end.Token);
        }
        catch (OperationCanceledException)
        {
            // The listener is stopping.
        }
    }

    private void LogAtMostOnceAMinute(Exception exception)
    {
        var now = _time.GetTimestamp();
        if (_logged is null || _time.GetElapsedTime(_logged.Value, now) >= TimeSpan.FromMinutes(1))
        {
            _logged = now;
            LogNotAccepted(exception.Message);
        }
    }

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "A connection could not be accepted ({Why}); the server keeps accepting, and does not log this again for a minute")]
    private partial void LogNotAccepted(string why);
}
