using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine.Guests;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>A client attached by a WebSocket, on a real connection.</summary>
public sealed class AttachSocketTests
{
    private const string Terminal = """{"code": "run", "terminal": {"columns": 80, "rows": 24}}""";
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task Bytes_go_both_ways_and_the_end_is_told()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true}""");
        var run = guest.RunOf(process);
        run.Write("before");
        using var socket = await ConnectAsync(api, id, process, "?from=3");
        Assert.Equal(ProcessEvents.WebSocketProtocol, socket.SubProtocol);
        Assert.Equal("""{"type":"output","stream":"stdout","offset":3}""", await TextAsync(socket));
        Assert.Equal("ore", await BinaryAsync(socket));
        run.Write("more");
        Assert.Equal("more", await BinaryAsync(socket));
        run.Write(OutputStream.Stderr, "oh"u8);
        Assert.Equal("""{"type":"output","stream":"stderr","offset":10}""", await TextAsync(socket));
        Assert.Equal("oh", await BinaryAsync(socket));
        await SendAsync(socket, "abc"u8.ToArray(), WebSocketMessageType.Binary);
        await FakeNode.UntilAsync(() => run.Input.Length == 3);
        await SendAsync(socket, """{"type":"end_input"}""");
        await FakeNode.UntilAsync(() => run.HasInputEnded);
        run.EndWith(3);
        Assert.Equal("""{"type":"exited","exit":{"exit_code":3,"offset":12}}""", await TextAsync(socket));
        Assert.Equal(WebSocketCloseStatus.NormalClosure, await CloseAsync(socket));
        // The process need not wait for the client's close.
        await FakeNode.UntilAsync(() => run.ReaderCount == 0);
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task The_end_arrives_whenever_it_comes()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        for (var i = 0; i < 50; i++)
        {
            var process = await EventStreamTests.StartAsync(api, id, """{"code": "run", "stdin": true}""");
            using var socket = await ConnectAsync(api, id, process);
            await SendAsync(socket, new byte[100], WebSocketMessageType.Binary);
            guest.RunOf(process).EndWith(i);
            Assert.Contains($"\"exit_code\":{i},", await TextAsync(socket));
            Assert.Equal(WebSocketCloseStatus.NormalClosure, await CloseAsync(socket));
        }
    }

    [Fact]
    public async Task Signals_and_sizes_are_text_frames()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, Terminal);
        var run = guest.RunOf(process);
        run.DiesOfSignals = false;
        using var socket = await ConnectAsync(api, id, process);
        await SendAsync(socket, """{"type":"resize","columns":120,"rows":40}""");
        // A message in several frames.
        var signal = """{"type":"signal","signal":"INT"}"""u8.ToArray();
        await socket.SendAsync(signal.AsMemory(0, 10), WebSocketMessageType.Text, endOfMessage: false, default);
        await socket.SendAsync(signal.AsMemory(10), WebSocketMessageType.Text, endOfMessage: true, default);
        await FakeNode.UntilAsync(() => run.Signals.Count == 1);
        Assert.Equal((2, (120, 40)), (run.Signals[0], run.Sizes.Single()));
    }

    [Theory]
    [InlineData("garbage")]
    [InlineData("")]
    [InlineData("[]")]
    [InlineData("null")]
    [InlineData("{}")]
    [InlineData("""{"type":"nothing"}""")]
    [InlineData("""{"type":"resize"}""")]
    [InlineData("""{"type":"resize","columns":0,"rows":1}""")]
    [InlineData("""{"type":"resize","columns":1,"rows":65536}""")]
    [InlineData("""{"type":"signal"}""")]
    [InlineData("""{"type":"signal","signal":"NOPE"}""")]
    [InlineData("long")]
    [InlineData("4096")]
    public async Task A_text_that_means_nothing_closes_the_connection_and_leaves_the_process(string text)
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, Terminal);
        using var socket = await ConnectAsync(api, id, process);
        await SendAsync(socket, text switch { "long" => new string(' ', 100_000), "4096" => new string(' ', 4096), _ => text });
        Assert.Equal(WebSocketCloseStatus.InvalidPayloadData, await CloseAsync(socket));
        await FakeNode.UntilAsync(() => guest.Runs[0].ReaderCount == 0);
        Assert.Null(guest.Runs[0].End);
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task Input_for_a_process_without_one_closes_the_connection()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id);
        using var socket = await ConnectAsync(api, id, process);
        await SendAsync(socket, "x"u8.ToArray(), WebSocketMessageType.Binary);
        Assert.Equal(WebSocketCloseStatus.PolicyViolation, await CloseAsync(socket));
        await FakeNode.UntilAsync(() => guest.Runs[0].ReaderCount == 0);
    }

    [Fact]
    public async Task A_client_that_closes_or_is_cut_leaves_the_process()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, Terminal);
        using (var socket = await ConnectAsync(api, id, process))
        {
            await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "enough", default).WaitAsync(Limit, TimeProvider.System);
            Assert.Equal(WebSocketState.Closed, socket.State);
        }

        using (var socket = await ConnectAsync(api, id, process))
        {
            socket.Abort();
        }

        await FakeNode.UntilAsync(() => guest.Runs[0].ReaderCount == 0);
        Assert.Null(guest.Runs[0].End);
        Assert.Empty(guest.Violations);
    }

    [Fact]
    public async Task The_end_of_the_sandbox_is_an_error()
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, _) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, Terminal);
        using var socket = await ConnectAsync(api, id, process);
        await api.SendAsync(HttpMethod.Delete, $"/sandboxes/{id}");
        var error = JsonDocument.Parse(await TextAsync(socket)).RootElement;
        Assert.Equal(
            ("error", "sandbox_not_found"),
            (error.GetProperty("type").GetString(), error.GetProperty("problem").GetProperty("code").GetString()));
        Assert.Equal(WebSocketCloseStatus.EndpointUnavailable, await CloseAsync(socket));
    }

    [Theory]
    [InlineData("other", "", 400)]
    [InlineData(null, "", 400)]
    [InlineData(ProcessEvents.WebSocketProtocol, "?from=-2", 400)]
    [InlineData(ProcessEvents.WebSocketProtocol, "?from=1", 400)]
    [InlineData(ProcessEvents.WebSocketProtocol, "?from=x", 400)]
    [InlineData(ProcessEvents.WebSocketProtocol, "unknown", 404)]
    public async Task What_is_wrong_is_refused_before_the_upgrade(string? protocol, string query, int status)
    {
        await using var api = await FakeServer.StartAsync(onLoopback: true);
        var (id, guest) = await EventStreamTests.CreateAsync(api);
        var process = await EventStreamTests.StartAsync(api, id, Terminal);
        using var socket = new ClientWebSocket();
        socket.Options.CollectHttpResponseDetails = true;
        if (protocol is not null)
        {
            socket.Options.AddSubProtocol(protocol);
        }

        var address = query == "unknown" ? AddressOf(api, id, "unknown", "") : AddressOf(api, id, process, query);
        await Assert.ThrowsAsync<WebSocketException>(() => socket.ConnectAsync(address, default));
        Assert.Equal(status, (int)socket.HttpStatusCode);
        Assert.Equal(0, guest.Runs[0].ReaderCount);
    }

    private static async Task<ClientWebSocket> ConnectAsync(FakeServer api, string id, string process, string query = "")
    {
        var socket = new ClientWebSocket();
        socket.Options.AddSubProtocol("another");
        socket.Options.AddSubProtocol(ProcessEvents.WebSocketProtocol);
        await socket.ConnectAsync(AddressOf(api, id, process, query), default);
        return socket;
    }

    private static Uri AddressOf(FakeServer api, string id, string process, string query) =>
        new UriBuilder(new Uri(api.Http.BaseAddress!, $"/sandboxes/{id}/processes/{process}/attach{query}")) { Scheme = "ws" }.Uri;

    private static Task SendAsync(ClientWebSocket socket, string text) =>
        SendAsync(socket, Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text);

    private static Task SendAsync(ClientWebSocket socket, byte[] bytes, WebSocketMessageType type) =>
        socket.SendAsync(bytes.AsMemory(), type, endOfMessage: true, default).AsTask().WaitAsync(Limit, TimeProvider.System);

    private static Task<string> TextAsync(ClientWebSocket socket) => ReceiveAsync(socket, WebSocketMessageType.Text);

    private static Task<string> BinaryAsync(ClientWebSocket socket) => ReceiveAsync(socket, WebSocketMessageType.Binary);

    private static async Task<WebSocketCloseStatus?> CloseAsync(ClientWebSocket socket)
    {
        await ReceiveAsync(socket, WebSocketMessageType.Close);
        await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, default);
        return socket.CloseStatus;
    }

    private static async Task<string> ReceiveAsync(ClientWebSocket socket, WebSocketMessageType type)
    {
        var buffer = new byte[64 * 1024];
        var count = 0;
        while (true)
        {
            var received = await socket.ReceiveAsync(buffer.AsMemory(count), default).AsTask().WaitAsync(Limit, TimeProvider.System);
            Assert.Equal(type, received.MessageType);
            count += received.Count;
            if (received.EndOfMessage)
            {
                return Encoding.UTF8.GetString(buffer, 0, count);
            }
        }
    }
}
