using System.Net.WebSockets;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Pandora.Contracts;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api.Ports;

/// <summary>
/// A client's connection to a program in a sandbox by a WebSocket: <see cref="PortSockets"/>. Two tasks copy, one for each direction. Each
/// waits for its other side, so that a side that does not read makes the other wait. An idle connection holds no buffer.
/// (1) A side that sends no more bytes ends its direction. The other goes on where the client knows of such ends.
/// (2) What a client sent before it closed is delivered. A client that vanishes closes the connection in the guest.
/// (3) What breaks the connection in the guest is the reason of the close.
/// </summary>
/// <param name="connection">The connection, which is disposed of at the end.</param>
internal sealed class PortSocket(SandboxStream connection) : IResult
{
    // For the other side to end what has ended on this side.
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(5);

    // Proxies cut what is quiet for longer.
    private static readonly TimeSpan Ping = TimeSpan.FromSeconds(15);

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = connection.ConfigureAwait(false);
        // A client may read as slowly as it likes: the program in the guest waits.
        if (httpContext.Features.Get<IHttpMinResponseDataRateFeature>() is { } rate)
        {
            rate.MinDataRate = null;
        }

        var knowsEnds = httpContext.WebSockets.WebSocketRequestedProtocols.Contains(PortSockets.Protocol);
        using var socket = await httpContext.WebSockets.AcceptWebSocketAsync(new WebSocketAcceptContext
        {
            SubProtocol = knowsEnds ? PortSockets.Protocol : null,
            KeepAliveInterval = Ping,
            // While the guest does not read, what the client sends waits, and its answers to pings with it: they prove nothing.
            KeepAliveTimeout = Timeout.InfiniteTimeSpan,
        });
        using var over = CancellationTokenSource.CreateLinkedTokenSource(httpContext.RequestAborted);
        var up = new SocketToGuest(socket, connection, knowsEnds);
        var down = new GuestToSocket(socket, connection, knowsEnds);
        var (receiving, sending) = (up.RunAsync(over.Token), down.RunAsync(over.Token));
        try
        {
            await Task.WhenAny((Task)receiving, sending);
            if (knowsEnds && sending.IsCompleted && await sending is null)
            {
                // The program sends no more bytes. The client may.
                await Task.WhenAny(receiving, up.Ended);
            }

            using var limit = new CancellationTokenSource(
                CloseLimit, httpContext.RequestServices.GetRequiredService<TimeProvider>());
            using var cutting = limit.Token.UnsafeRegister(static o => ((CancellationTokenSource)o!).Cancel(), over);
            var closing = receiving.IsCompleted ? await receiving : await sending ?? SocketClosing.Ended;
            if (closing.IsByClient)
            {
                await DeliverAsync(socket, closing, up, down, sending, over.Token);
            }
            else
            {
                // The end of one direction is then the end of both, also when the program took no more bytes after it.
                closing = closing.IsBroken && !knowsEnds && await sending is null ? SocketClosing.Ended : closing;
                await CloseAsync(socket, closing, up, receiving, sending, over.Token);
            }
        }
        catch (Exception e) when (e is WebSocketException or OperationCanceledException or IOException)
        {
            // The client is gone, or does not close.
        }
        finally
        {
            await over.CancelAsync();
            await connection.DisposeAsync();
            await Task.WhenAll((Task)receiving, sending).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await up.Rest.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    // The client has closed. The program reads to the end, and ends the connection itself; what it sends meanwhile nobody reads.
    private static async Task DeliverAsync(
        WebSocket socket, SocketClosing closing, SocketToGuest up, GuestToSocket down, Task sending, CancellationToken cancellationToken)
    {
        down.Discard();
        var finishing = closing.IsClean ? up.FinishAsync(cancellationToken) : Task.CompletedTask;
        try
        {
            await socket.CloseOutputAsync(closing.Status, closing.Words, cancellationToken);
        }
        finally
        {
            await finishing;
        }

        if (closing.IsClean)
        {
            await sending;
        }
    }

    // The connection in the guest is over, or the client broke the protocol.
    private async Task CloseAsync(
        WebSocket socket, SocketClosing closing, SocketToGuest up, Task receiving, Task sending, CancellationToken cancellationToken)
    {
        if (closing.IsBroken)
        {
            // What the program sent before it broke the connection comes first.
            await sending;
        }

        // The guest's side need not wait for the client.
        await connection.DisposeAsync();
        await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await socket.CloseOutputAsync(closing.Status, closing.Words, cancellationToken);
        await receiving.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        await up.ReadToCloseAsync(cancellationToken);
    }
}
