using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Threading.Channels;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Transport.Sockets;
using Pandora.Server.Auth;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Accepts connections within bounds, at its own pace: 1. accept; 2. make room, or refuse; 3. wait for the first byte; 4. only then let the
/// web server have it. What happens to one connection never ends the loop. Kestrel's own transport would, without descriptors, try again
/// without a pause for as long as they are missing.
/// </summary>
internal sealed partial class BoundedListener : IConnectionListener
{
    private static readonly TimeSpan Pause = TimeSpan.FromMilliseconds(20);
    private static readonly TimeSpan ClosingLimit = TimeSpan.FromMilliseconds(250);
    // The kernel's default bound (net.core.somaxconn): what comes in faster than it is accepted waits there instead of being dropped and
    // sent again after a second.
    private const int Backlog = 4096;
    // Accepts that end at once, in a row, before others get the thread.
    private const int InARow = 16;
    private const int ShedAtOnce = 16;
    // Longer headers are read by the web server all the same; they only are not known to be whole.
    private const int PeekedBytes = 4096;
    private readonly Socket _socket;
    private readonly ConnectionTable _table;
    private readonly KnownKeys _keys;
    private readonly SocketConnectionContextFactory _factory;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    // Not bounded itself: no more can be in it than the table lets in.
    private readonly Channel<ConnectionContext> _ready = Channel.CreateUnbounded<ConnectionContext>();
    private readonly CancellationTokenSource _end = new();
    private readonly Task _accepting;
    private long? _logged;

    public BoundedListener(
        Socket socket, ConnectionTable table, KnownKeys keys, SocketConnectionContextFactory factory, TimeProvider time, ILogger logger)
    {
        _socket = socket;
        _table = table;
        _keys = keys;
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
        // It ends at once: nothing that it awaits outlives the two lines above. The caller, who may not want to wait at all, would leave
        // it behind.
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
                // It was reset while it waited to be accepted.
            }
            catch (Exception e)
            {
                // accept(2): descriptors are missing, the system's or ours; or a firewall objects. None of it ends the listening.
                LogOnceInAWhile(e);
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
            if (IsShort(socket) && _table.Counts.Unadmitted > ShedAtOnce)
            {
                // Two for one, so that it gets better.
                _table.Shed(2);
            }

            var address = ((IPEndPoint)socket.RemoteEndPoint!).Address;
            if (_table.TryAdd(address, () => TrackedConnection.Reset(socket), () => HasUnread(socket)) is { } tracked)
            {
                _ = HandOverAsync(socket, tracked);
            }
            else
            {
                TrackedConnection.Reset(socket);
            }
        }
        catch (Exception e)
        {
            // Not a matter of the next one: no pause, which a client could bring about.
            LogOnceInAWhile(e);
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
            // It is closed already.
            return false;
        }
    }

    // open(2), accept(2): a new descriptor is the lowest that is free, so a high one tells that nearly all below it are taken, by
    // whatever it may be.
    private static bool IsShort(Socket socket) =>
        (long)socket.SafeHandle.DangerousGetHandle() >= Descriptors.Limit - ConnectionLimits.Margin;

    private async Task HandOverAsync(Socket socket, TrackedConnection tracked)
    {
        ConnectionContext? context = null;
        try
        {
            socket.NoDelay = true;
            // Of no bytes: it ends when there is one to read, or never will be.
            await socket.ReceiveAsync(Memory<byte>.Empty, SocketFlags.None);
            if (TryPeek(socket, out var isAsking, out var hasKey))
            {
                context = _factory.Create(socket);
                context.Features.Set<IAdmission>(tracked);
                if (_table.Speak(tracked, context, isAsking, hasKey) && TryPass(context, tracked))
                {
                    return;
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It was reset, by the other side or by the table.
        }
        catch (Exception e)
        {
            LogOnceInAWhile(e);
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

    // False: the other side has closed without a word. Nothing is taken from what has come.
    private bool TryPeek(Socket socket, out bool isAsking, out bool hasKey)
    {
        Span<byte> head = stackalloc byte[PeekedBytes];
        socket.Blocking = false;
        head = head[..socket.Receive(head, SocketFlags.Peek)];
        var end = head.IndexOf("\r\n\r\n"u8);
        isAsking = end >= 0;
        hasKey = isAsking && _keys.AreShownIn(head[..end]);
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
            // Stopped meanwhile.
        }
    }

    private void LogOnceInAWhile(Exception exception)
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
        Message = "A connection could not be accepted ({Why}); it is tried again and again, and not said again for a minute")]
    private partial void LogNotAccepted(string why);
}
