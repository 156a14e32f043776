using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Pandora.Contracts;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;

namespace Pandora.Tests.Api;

/// <summary>WebSockets to programs in a sandbox, which are real listeners here.</summary>
public sealed partial class PortSocketTests : IAsyncLifetime
{
    private const int Port = 3000;
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(1);
    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private FakeServer _api = null!;
    private string _id = "";
    private FakeGuest _guest = null!;
    private Sandbox _sandbox = null!;

    public async ValueTask InitializeAsync()
    {
        _api = await FakeServer.StartAsync(onLoopback: true);
        _id = await _api.CreateAsync();
        (_guest, _sandbox) = (_api.Node.GuestOf(_id), _api.Node.Sandboxes.Get(_id));
        _listener.Start();
        _guest.Ports[Port] = (IPEndPoint)_listener.LocalEndpoint;
        _guest.SshServer = (IPEndPoint)_listener.LocalEndpoint;
    }

    public async ValueTask DisposeAsync()
    {
        _listener.Dispose();
        await _api.DisposeAsync();
    }

    [Theory]
    [InlineData("connect", false)]
    [InlineData("connect", true)]
    [InlineData("ssh", false)]
    [InlineData("ssh", true)]
    public async Task Bytes_go_both_ways_in_messages_of_any_size(string what, bool knowsEnds)
    {
        var (socket, program) = await OpenAsync(knowsEnds, what);
        using var closing = socket;
        using var program2 = program;
        Assert.Equal(knowsEnds ? PortSockets.Protocol : null, socket.SubProtocol);
        var echoing = EchoAsync(program);
        // A message in several frames, of which one is empty, is bytes like another.
        await socket.SendAsync("hel"u8.ToArray().AsMemory(), WebSocketMessageType.Binary, endOfMessage: false, default);
        await socket.SendAsync(Memory<byte>.Empty, WebSocketMessageType.Binary, endOfMessage: false, default);
        await socket.SendAsync("lo"u8.ToArray().AsMemory(), WebSocketMessageType.Binary, endOfMessage: false, default);
        await socket.SendAsync(Memory<byte>.Empty, WebSocketMessageType.Binary, endOfMessage: true, default);
        Assert.Equal("hello", Encoding.ASCII.GetString(await ReceiveAsync(socket, 5)));
        if (!knowsEnds)
        {
            // It means nothing here.
            await socket.SendAsync(Memory<byte>.Empty, WebSocketMessageType.Binary, endOfMessage: true, default);
        }

        await SendAsync(socket, new byte[100_000]);
        Assert.Equal(100_000, (await ReceiveAsync(socket, 100_000)).Length);
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default).WaitAsync(Limit, TimeProvider.System);
        Assert.Equal(WebSocketCloseStatus.NormalClosure, socket.CloseStatus);
        await echoing.WaitAsync(Limit, TimeProvider.System);
        await NothingIsLeftAsync();
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Each_direction_ends_by_itself_where_the_client_knows_of_ends(bool isClientFirst)
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        var stream = program.GetStream();
        if (isClientFirst)
        {
            await SendAsync(socket, "request"u8.ToArray());
            await SendAsync(socket, []);
            Assert.Equal("request", Encoding.ASCII.GetString(await ToEndAsync(stream)));
            await stream.WriteAsync("answer"u8.ToArray());
            program.Client.Shutdown(SocketShutdown.Send);
            Assert.Equal("answer", Encoding.ASCII.GetString(await ToEndMessageAsync(socket)));
        }
        else
        {
            await stream.WriteAsync("greeting"u8.ToArray());
            program.Client.Shutdown(SocketShutdown.Send);
            Assert.Equal("greeting", Encoding.ASCII.GetString(await ToEndMessageAsync(socket)));
            await SendAsync(socket, "late"u8.ToArray());
            await SendAsync(socket, []);
            Assert.Equal("late", Encoding.ASCII.GetString(await ToEndAsync(stream)));
        }

        Assert.Equal((WebSocketCloseStatus.NormalClosure, "the connection has ended"), await CloseAsync(socket));
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task Without_the_subprotocol_the_end_of_the_program_closes()
    {
        var (socket, program) = await OpenAsync(knowsEnds: false);
        using var closing = socket;
        using var closing2 = program;
        await program.GetStream().WriteAsync("bye"u8.ToArray());
        program.Client.Shutdown(SocketShutdown.Send);
        Assert.Equal("bye", Encoding.ASCII.GetString(await ReceiveAsync(socket, 3)));
        Assert.Equal((WebSocketCloseStatus.NormalClosure, "the connection has ended"), await CloseAsync(socket));
        await EndsAsync(program);
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task A_program_that_breaks_its_connection_is_said_to_the_client()
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        // Not that of the TcpClient, which ends the bytes first.
        program.Client.LingerState = new LingerOption(enable: true, seconds: 0);
        program.Client.Dispose();
        var (status, words) = await CloseAsync(socket);
        Assert.Equal(WebSocketCloseStatus.InternalServerError, status);
        Assert.InRange(words!.Length, 1, 123);
        await NothingIsLeftAsync();
    }

    [Theory]
    [InlineData("text", WebSocketCloseStatus.InvalidMessageType)]
    [InlineData("empty text", WebSocketCloseStatus.InvalidMessageType)]
    [InlineData("after the end", WebSocketCloseStatus.PolicyViolation)]
    public async Task What_is_no_bytes_of_the_connection_closes_it(string what, WebSocketCloseStatus expected)
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        if (what == "after the end")
        {
            await SendAsync(socket, []);
            await SendAsync(socket, new byte[1]);
        }
        else
        {
            await socket.SendAsync(
                what == "text" ? "hello"u8.ToArray() : Array.Empty<byte>(), WebSocketMessageType.Text, endOfMessage: true, default);
        }

        Assert.Equal(expected, (await CloseAsync(socket)).Status);
        await EndsAsync(program);
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task What_a_client_sent_before_it_closed_is_delivered()
    {
        await using var clock = _api.Node.RunClock(speed: 1);
        var (socket, program) = await OpenAsync(knowsEnds: false);
        using var closing = socket;
        using var closing2 = program;
        var bytes = RandomNumberGenerator.GetBytes(1024 * 1024);
        var reading = ToEndAsync(program.GetStream());
        await SendAsync(socket, bytes);
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, default).WaitAsync(Limit, TimeProvider.System);
        Assert.Equal(bytes, await reading.WaitAsync(Limit, TimeProvider.System));
        program.Dispose();
        await NothingIsLeftAsync();
    }

    [Theory]
    [InlineData("vanishes")]
    [InlineData("says that it failed")]
    public async Task A_client_that_does_not_end_well_breaks_the_connection_in_the_guest(string what)
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        await SendAsync(socket, new byte[10]);
        await program.GetStream().ReadExactlyAsync(new byte[10]);
        if (what == "vanishes")
        {
            socket.Abort();
        }
        else
        {
            await socket.CloseOutputAsync(WebSocketCloseStatus.InternalServerError, "oh", default);
        }

        await EndsAsync(program);
        await NothingIsLeftAsync();
    }

    [Theory]
    [InlineData("vanishes")]
    [InlineData("closes")]
    public async Task A_client_leaves_although_the_program_does_not_read(string what)
    {
        await using var clock = _api.Node.RunClock();
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        program.Client.ReceiveBufferSize = 4096;
        var sent = 0L;
        using var stop = new CancellationTokenSource();
        var sending = Task.Run(async () =>
        {
            while (true)
            {
                await socket.SendAsync(new byte[64 * 1024].AsMemory(), WebSocketMessageType.Binary, true, stop.Token);
                Interlocked.Add(ref sent, 64 * 1024);
            }
        });
        await StopsAsync(() => Interlocked.Read(ref sent));
        // What waits on the way is bounded: buffers of two connections of loopback, and of the web server.
        Assert.InRange(Interlocked.Read(ref sent), 0, 64 * 1024 * 1024);
        if (what == "vanishes")
        {
            socket.Abort();
        }
        else
        {
            // The close comes after what was sent. Then the connection is gone without a word.
            await stop.CancelAsync();
            socket.Dispose();
        }

        await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        program.Dispose();
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task Pings_are_answered_while_the_program_does_not_read()
    {
        var address = AddressOf(_api, $"ports/{Port}/connect");
        using var client = new TcpClient();
        await client.ConnectAsync(IPAddress.Loopback, address.Port);
        var accepting = _listener.AcceptTcpClientAsync();
        var socket = client.GetStream();
        await socket.WriteAsync(Encoding.ASCII.GetBytes(
            $"GET {address.AbsolutePath} HTTP/1.1\r\nHost: {address.Authority}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"));
        using var program = await accepting.WaitAsync(Limit, TimeProvider.System);
        // Frames of RFC 6455, section 5.2, with a mask of zeros: 64 KiB of bytes, then pings. The last byte is the program's.
        await socket.WriteAsync(new byte[] { 0x82, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0 });
        await socket.WriteAsync(new byte[64 * 1024]);
        for (byte i = 1; i <= 3; i++)
        {
            await socket.WriteAsync(new byte[] { 0x89, 0x82, 0, 0, 0, 0, (byte)'p', i });
            await ReceiveAsync([0x8A, 2, (byte)'p', i]);
        }

        await program.GetStream().WriteAsync("x"u8.ToArray());
        await ReceiveAsync([0x82, 1, (byte)'x']);

        async Task ReceiveAsync(byte[] frame)
        {
            using var received = new MemoryStream();
            var piece = new byte[4096];
            while (received.ToArray().AsSpan().IndexOf(frame) < 0)
            {
                var count = await socket.ReadAsync(piece).AsTask().WaitAsync(Limit, TimeProvider.System);
                Assert.NotEqual(0, count);
                received.Write(piece, 0, count);
            }
        }
    }

    [Fact]
    public async Task A_client_that_does_not_read_makes_the_program_wait_and_gets_all_at_last()
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        const int Total = 96 * 1024 * 1024;
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        var written = 0L;
        var writing = Task.Run(async () =>
        {
            var piece = RandomNumberGenerator.GetBytes(64 * 1024);
            for (; written < Total; Interlocked.Add(ref written, piece.Length))
            {
                BitConverter.TryWriteBytes(piece, written);
                hash.AppendData(piece);
                await program.GetStream().WriteAsync(piece);
            }

            program.Client.Shutdown(SocketShutdown.Send);
        });
        await StopsAsync(() => Interlocked.Read(ref written));
        Assert.InRange(Interlocked.Read(ref written), 0, 48 * 1024 * 1024);
        var received = SHA256.HashData(await ToEndMessageAsync(socket, Total));
        await writing;
        Assert.Equal(hash.GetHashAndReset(), received);
    }

    [Fact]
    public async Task Much_goes_both_ways_at_once_unchanged()
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        var (up, down) = (RandomNumberGenerator.GetBytes(24 * 1024 * 1024), RandomNumberGenerator.GetBytes(24 * 1024 * 1024));
        var program2 = program.GetStream();
        var uploaded = ToEndAsync(program2);
        var downloading = Task.Run(async () =>
        {
            await program2.WriteAsync(down);
            program.Client.Shutdown(SocketShutdown.Send);
        });
        var uploading = Task.Run(async () =>
        {
            foreach (var piece in up.Chunk(50_000))
            {
                await SendAsync(socket, piece);
            }

            await SendAsync(socket, []);
        });
        var downloaded = await ToEndMessageAsync(socket, down.Length);
        Assert.Equal(SHA256.HashData(down), SHA256.HashData(downloaded));
        Assert.Equal(SHA256.HashData(up), SHA256.HashData(await uploaded.WaitAsync(Limit, TimeProvider.System)));
        await Task.WhenAll(downloading, uploading);
        Assert.Equal(WebSocketCloseStatus.NormalClosure, (await CloseAsync(socket)).Status);
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task The_end_of_the_sandbox_is_the_reason_of_the_close()
    {
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        await _api.SendAsync(HttpMethod.Delete, $"/sandboxes/{_id}");
        var (status, words) = await CloseAsync(socket);
        Assert.Equal(WebSocketCloseStatus.InternalServerError, status);
        Assert.Contains("has ended", words);
        await EndsAsync(program);
        await NothingIsLeftAsync();
    }

    [Fact]
    public async Task A_server_that_stops_says_so()
    {
        await using var clock = _api.Node.RunClock();
        var (socket, program) = await OpenAsync(knowsEnds: true);
        using var closing = socket;
        using var closing2 = program;
        var stopping = _api.Node.StopAsync(keep: true);
        Assert.Equal((WebSocketCloseStatus.EndpointUnavailable, "the server is shutting down"), await CloseAsync(socket));
        await EndsAsync(program);
        await stopping;
    }

    [Theory]
    [InlineData("ports/3000/connect", true, 400, "invalid_request")]
    [InlineData("ssh", true, 400, "invalid_request")]
    [InlineData("ports/3001/connect", false, 502, "port_closed")]
    [InlineData("ports/0/connect", false, 400, "invalid_request")]
    [InlineData("ports/65536/connect", false, 400, "invalid_request")]
    [InlineData("ports/x/connect", false, 400, "invalid_request")]
    public async Task What_is_wrong_is_refused_before_the_upgrade(string path, bool isPlain, int status, string code)
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, $"/sandboxes/{_id}/{path}");
        if (!isPlain)
        {
            request.Headers.TryAddWithoutValidation("Connection", "Upgrade");
            request.Headers.TryAddWithoutValidation("Upgrade", "websocket");
            request.Headers.TryAddWithoutValidation("Sec-WebSocket-Version", "13");
            request.Headers.TryAddWithoutValidation("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==");
        }

        using var response = await _api.Http.SendAsync(request);
        Assert.Equal(status, (int)response.StatusCode);
        Assert.Contains($"\"code\":\"{code}\"", await response.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task A_guest_without_ssh_and_a_sandbox_that_is_gone_are_refused_before_the_upgrade()
    {
        _guest.SshServer = null;
        Assert.Equal(501, await RefusedAsync(_api, "ssh"));
        var other = await _api.CreateAsync();
        await _api.SendAsync(HttpMethod.Delete, $"/sandboxes/{other}");
        Assert.Equal(404, await RefusedAsync(_api, $"ports/{Port}/connect", other));
        var dead = await _api.CreateAsync();
        _api.Node.MachineOf(dead).Die("killed");
        await FakeNode.UntilAsync(() => _api.Node.Sandboxes.Count == 1);
        Assert.Equal(410, await RefusedAsync(_api, $"ports/{Port}/connect", dead));
        Assert.Equal(410, await RefusedAsync(_api, "ssh", dead));
    }
}
