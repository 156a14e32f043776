using System.Net.Sockets;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Http;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Tests.Client.Ports;

/// <summary>A connection to a port, against a server that speaks the wire strictly.</summary>
public sealed class PortStreamTests : IAsyncLifetime
{
    private PortsServer _server = null!;
    private PandoraClient _pandora = null!;

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private SandboxPorts Ports => _pandora.Connect(PortsServer.Id).Ports;

    public async ValueTask InitializeAsync()
    {
        _server = await PortsServer.StartAsync("secret");
        _pandora = new PandoraClient(
            new PandoraClientOptions { Url = new Uri(_server.Url), ApiKey = "secret", MaxRetryTime = TimeSpan.Zero });
    }

    public async ValueTask DisposeAsync()
    {
        _pandora.Dispose();
        await _server.DisposeAsync();
        Assert.Empty(_server.Faults);
    }

    [Fact]
    public async Task The_end_of_one_direction_leaves_the_other()
    {
        using var _ = _server.Listen(80, async socket =>
        {
            await using var stream = new NetworkStream(socket);
            using var all = new MemoryStream();
            await stream.CopyToAsync(all);
            await stream.WriteAsync(Encoding.ASCII.GetBytes($"{all.Length} bytes"));
            socket.Shutdown(SocketShutdown.Both);
        });
        await using var connection = await Ports.ConnectAsync(80, Token);
        await connection.WriteAsync(new byte[100_000], Token);
        await connection.WriteAsync(Array.Empty<byte>(), Token);
        await connection.WriteAsync("abc"u8.ToArray(), Token);
        await connection.EndWriteAsync(Token);
        await connection.EndWriteAsync(Token);
        Assert.Equal("100003 bytes", await TextAsync(connection));
        Assert.Equal(0, await connection.ReadAsync(new byte[1], Token));
        await Assert.ThrowsAsync<InvalidOperationException>(() => connection.WriteAsync("x"u8.ToArray(), Token).AsTask());
    }

    [Fact]
    public async Task The_other_sides_end_leaves_this_direction()
    {
        var received = new TaskCompletionSource<string>();
        using var _ = _server.Listen(80, async socket =>
        {
            using var reader = new StreamReader(new NetworkStream(socket));
            socket.Shutdown(SocketShutdown.Send);
            received.SetResult(await reader.ReadToEndAsync());
        });
        await using var connection = await Ports.ConnectAsync(80, Token);
        Assert.Equal(0, await connection.ReadAsync(new byte[1], Token));
        await connection.WriteAsync("after the end"u8.ToArray(), Token);
        await connection.EndWriteAsync(Token);
        Assert.Equal("after the end", await received.Task.WaitAsync(TimeSpan.FromMinutes(1), Token));
    }

    [Fact]
    public async Task Both_directions_run_at_once_and_change_no_byte()
    {
        using var _ = _server.Listen(80, EchoAsync);
        await using var connection = await Ports.ConnectAsync(80, Token);
        var sent = RandomNumberGenerator.GetBytes(16 * 1024 * 1024);
        var writing = Task.Run(async () =>
        {
            await connection.WriteAsync(sent, Token);
            await connection.EndWriteAsync(Token);
        });
        using var received = new MemoryStream();
        await connection.CopyToAsync(received, Token);
        await writing;
        Assert.Equal(SHA256.HashData(sent), SHA256.HashData(received.ToArray()));
    }

    [Fact]
    public async Task A_guest_that_does_not_read_holds_the_writer_back()
    {
        var goOn = new TaskCompletionSource();
        using var _ = _server.Listen(80, async _ => await goOn.Task);
        await using var connection = await Ports.ConnectAsync(80, Token);
        var (block, written) = (new byte[256 * 1024], 0L);
        while (written < 256L * 1024 * 1024)
        {
            var write = connection.WriteAsync(block, Token).AsTask();
            // The first one is taken: buffers have room for it.
            var pause = written == 0 ? TimeSpan.FromMinutes(1) : TimeSpan.FromSeconds(1);
            if (await Task.WhenAny(write, Task.Delay(pause, TimeProvider.System, Token)) != write)
            {
                break;
            }

            written += block.Length;
        }

        Assert.InRange(written, 1, 64L * 1024 * 1024);
        goOn.SetResult();
    }

    [Fact]
    public async Task A_message_in_parts_is_no_end_even_when_its_last_part_is_empty()
    {
        _server.Script = async socket =>
        {
            await socket.SendAsync("ab"u8.ToArray(), WebSocketMessageType.Binary, endOfMessage: false, Token);
            await socket.SendAsync(Array.Empty<byte>(), WebSocketMessageType.Binary, endOfMessage: true, Token);
            await socket.SendAsync("cd"u8.ToArray(), WebSocketMessageType.Binary, endOfMessage: true, Token);
            await socket.SendAsync(Array.Empty<byte>(), WebSocketMessageType.Binary, endOfMessage: true, Token);
            await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, Token);
        };
        await using var connection = await Ports.ConnectAsync(80, Token);
        Assert.Equal(0, await connection.ReadAsync(Memory<byte>.Empty, Token));
        var buffer = new byte[1];
        Assert.Equal(1, await connection.ReadAsync(buffer, Token));
        Assert.Equal("bcd", await TextAsync(connection));
    }

    [Theory]
    [InlineData("port_closed", 502)]
    [InlineData("ports_unsupported", 501)]
    [InlineData("too_many_connections", 429)]
    public async Task A_refusal_is_the_clients_exception_with_the_servers_words(string code, int status)
    {
        var row = ErrorCodes.Find(code)!;
        _server.Refusal = context => PortsServer.ProblemAsync(context, row, "the server says why");
        var error = await Assert.ThrowsAsync<PandoraApiException>(() => Ports.ConnectAsync(80, Token));
        Assert.Equal((code, (int?)status, "the server says why"), (error.Code, error.Status, error.Message));
    }

    [Fact]
    public async Task An_ended_sandbox_and_a_closed_port_refuse_a_connection()
    {
        var closed = await Assert.ThrowsAsync<PandoraApiException>(() => Ports.ConnectAsync(81, Token));
        Assert.Equal(ErrorCodes.PortClosed.Code, closed.Code);
        await Assert.ThrowsAsync<SandboxNotFoundException>(() => _pandora.Connect("other").Ports.ConnectAsync(80, Token));
        await Assert.ThrowsAsync<ArgumentOutOfRangeException>(() => Ports.ConnectAsync(65536, Token));
        using var stranger = new PandoraClient(_server.Url);
        var refused = await Assert.ThrowsAsync<PandoraApiException>(() => stranger.Connect(PortsServer.Id).Ports.ConnectAsync(80, Token));
        Assert.Equal("unauthorized", refused.Code);
        using var nowhere = new PandoraClient("http://127.0.0.1:1");
        await Assert.ThrowsAsync<ServerUnreachableException>(() => nowhere.Connect(PortsServer.Id).Ports.ConnectAsync(80, Token));
    }

    [Fact]
    public async Task An_answer_that_is_no_WebSocket_of_the_subprotocol_is_not_understood()
    {
        _server.Refusal = context => context.Response.WriteAsync("welcome");
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => Ports.ConnectAsync(80, Token));
        _server.Refusal = async context => (await context.WebSockets.AcceptWebSocketAsync()).Dispose();
        await Assert.ThrowsAsync<UnexpectedAnswerException>(() => Ports.ConnectAsync(80, Token));
    }

    [Fact]
    public async Task The_end_of_the_sandbox_is_an_IOException_with_the_reason()
    {
        using var _ = _server.Listen(80, EchoAsync);
        await using var connection = await Ports.ConnectAsync(80, Token);
        await connection.WriteAsync("x"u8.ToArray(), Token);
        Assert.Equal(1, await connection.ReadAsync(new byte[9], Token));
        var reading = connection.ReadAsync(new byte[9], Token).AsTask();
        _server.End("the sandbox was idle for 60 s");
        Assert.Equal("the sandbox was idle for 60 s", (await Assert.ThrowsAnyAsync<IOException>(() => reading)).Message);
        Assert.Equal(
            "the sandbox was idle for 60 s",
            (await Assert.ThrowsAnyAsync<IOException>(() => connection.ReadAsync(new byte[9], Token).AsTask())).Message);
        Assert.Equal(
            "the sandbox was idle for 60 s",
            (await Assert.ThrowsAnyAsync<IOException>(() => connection.WriteAsync(new byte[9], Token).AsTask())).Message);
    }

    [Fact]
    public async Task A_connection_that_the_guest_resets_and_one_that_breaks_are_IOExceptions()
    {
        // Before the client is connected, a reset would be an answer of the server.
        var isConnected = new TaskCompletionSource();
        using var _ = _server.Listen(80, async socket =>
        {
            socket.LingerState = new LingerOption(true, 0);
            await isConnected.Task;
        });
        await using var reset = await Ports.ConnectAsync(80, Token);
        isConnected.SetResult();
        var error = await Assert.ThrowsAnyAsync<IOException>(() => reset.ReadAsync(new byte[9], Token).AsTask());
        Assert.StartsWith("the guest's connection broke", error.Message, StringComparison.Ordinal);

        _server.Script = async socket =>
        {
            await socket.ReceiveAsync(new byte[9].AsMemory(), Token);
            socket.Abort();
        };
        await using var broken = await Ports.ConnectAsync(80, Token);
        await broken.WriteAsync("x"u8.ToArray(), Token);
        error = await Assert.ThrowsAnyAsync<IOException>(() => broken.ReadAsync(new byte[9], Token).AsTask());
        Assert.StartsWith("the connection to the sandbox broke", error.Message, StringComparison.Ordinal);

        _server.Script = socket => socket.SendAsync("x"u8.ToArray(), WebSocketMessageType.Text, endOfMessage: true, Token);
        await using var text = await Ports.ConnectAsync(80, Token);
        error = await Assert.ThrowsAnyAsync<IOException>(() => text.ReadAsync(new byte[9], Token).AsTask());
        Assert.Contains("text", error.Message, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task Disposing_closes_the_guests_connection(bool isAsync)
    {
        var ended = new TaskCompletionSource();
        using var _ = _server.Listen(80, async socket =>
        {
            try
            {
                await new NetworkStream(socket).ReadExactlyAsync(new byte[2]);
            }
            catch (Exception e) when (e is IOException)
            {
                ended.SetResult();
            }
        });
        var connection = await Ports.ConnectAsync(80, Token);
        await connection.WriteAsync("x"u8.ToArray(), Token);
        if (isAsync)
        {
            await connection.DisposeAsync();
        }
        else
        {
            ((IDisposable)connection).Dispose();
        }

        await ended.Task.WaitAsync(TimeSpan.FromMinutes(1), Token);
        await Assert.ThrowsAsync<ObjectDisposedException>(() => connection.ReadAsync(new byte[1], Token).AsTask());
        await Assert.ThrowsAsync<ObjectDisposedException>(() => connection.WriteAsync(new byte[1], Token).AsTask());
        Assert.Equal((false, false), (connection.CanRead, connection.CanWrite));
    }

    private static async Task EchoAsync(Socket socket)
    {
        await using var stream = new NetworkStream(socket);
        await stream.CopyToAsync(stream);
        socket.Shutdown(SocketShutdown.Send);
    }

    private static async Task<string> TextAsync(Stream stream)
    {
        using var reader = new StreamReader(stream, leaveOpen: true);
        return await reader.ReadToEndAsync(Token);
    }
}
