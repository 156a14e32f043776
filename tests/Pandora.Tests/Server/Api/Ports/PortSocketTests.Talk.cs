using System.Net.Sockets;
using System.Net.WebSockets;
using Pandora.Contracts;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <content>How the tests talk to both sides.</content>
public sealed partial class PortSocketTests
{
    private async Task<(ClientWebSocket Socket, TcpClient Program)> OpenAsync(bool knowsEnds, string what = "connect")
    {
        var socket = new ClientWebSocket();
        if (knowsEnds)
        {
            socket.Options.AddSubProtocol("another");
            socket.Options.AddSubProtocol(PortSockets.Protocol);
        }

        var accepting = _listener.AcceptTcpClientAsync();
        var path = what == "ssh" ? what : $"ports/{Port}/connect";
        await socket.ConnectAsync(AddressOf(_api, path), default).WaitAsync(Limit, TimeProvider.System);
        return (socket, await accepting);
    }

    private Uri AddressOf(FakeServer api, string path, string? id = null) =>
        new UriBuilder(new Uri(api.Http.BaseAddress!, $"/sandboxes/{id ?? _id}/{path}")) { Scheme = "ws" }.Uri;

    private async Task<int> RefusedAsync(FakeServer api, string path, string? id = null)
    {
        using var socket = new ClientWebSocket();
        socket.Options.CollectHttpResponseDetails = true;
        await Assert.ThrowsAsync<WebSocketException>(() => socket.ConnectAsync(AddressOf(api, path, id), default));
        return (int)socket.HttpStatusCode;
    }

    // Each connection has left its place.
    private Task NothingIsLeftAsync() => FakeNode.UntilAsync(() => _sandbox.Connections == 0);

    private static async Task StopsAsync(Func<long> count)
    {
        long seen;
        do
        {
            seen = count();
            await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System);
        }
        while (seen == 0 || seen != count());
    }

    private static async Task EchoAsync(TcpClient program)
    {
        await program.GetStream().CopyToAsync(program.GetStream());
        program.Dispose();
    }

    private static async Task<byte[]> ToEndAsync(Stream stream)
    {
        using var all = new MemoryStream();
        await stream.CopyToAsync(all);
        return all.ToArray();
    }

    // By an end of its bytes or by a reset.
    private static Task EndsAsync(TcpClient program) => FakeNode.UntilAsync(() =>
    {
        try
        {
            return program.Client.Poll(0, SelectMode.SelectRead) && program.Client.Receive(new byte[1024]) == 0;
        }
        catch (SocketException)
        {
            return true;
        }
    });

    private static Task SendAsync(ClientWebSocket socket, byte[] bytes) =>
        socket.SendAsync(bytes.AsMemory(), WebSocketMessageType.Binary, endOfMessage: true, default).AsTask();

    private static async Task<byte[]> ReceiveAsync(ClientWebSocket socket, int count)
    {
        var bytes = new byte[count];
        for (var i = 0; i < count;)
        {
            var received = await socket.ReceiveAsync(bytes.AsMemory(i), default).AsTask().WaitAsync(Limit, TimeProvider.System);
            Assert.Equal(WebSocketMessageType.Binary, received.MessageType);
            i += received.Count;
        }

        return bytes;
    }

    private static async Task<byte[]> ToEndMessageAsync(ClientWebSocket socket, int most = 1024)
    {
        var (bytes, count, ofMessage) = (new byte[most + 1], 0, 0);
        while (true)
        {
            var received = await socket.ReceiveAsync(bytes.AsMemory(count), default).AsTask().WaitAsync(Limit, TimeProvider.System);
            Assert.Equal(WebSocketMessageType.Binary, received.MessageType);
            (count, ofMessage) = (count + received.Count, ofMessage + received.Count);
            if (received.EndOfMessage && ofMessage == 0)
            {
                return bytes[..count];
            }

            ofMessage = received.EndOfMessage ? 0 : ofMessage;
        }
    }

    private static async Task<(WebSocketCloseStatus? Status, string? Words)> CloseAsync(ClientWebSocket socket)
    {
        var received = await socket.ReceiveAsync(new byte[1024].AsMemory(), default).AsTask().WaitAsync(Limit, TimeProvider.System);
        Assert.Equal((WebSocketMessageType.Close, 0), (received.MessageType, received.Count));
        await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, default);
        return (socket.CloseStatus, socket.CloseStatusDescription);
    }
}
