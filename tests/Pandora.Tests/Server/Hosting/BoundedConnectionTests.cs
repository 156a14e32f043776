using System.Diagnostics.Metrics;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Text.RegularExpressions;
using Pandora.Fakes;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Hosting;

/// <summary>The real web server on loopback with a low limit of connections, and clients that misbehave.</summary>
public sealed partial class BoundedConnectionTests : IAsyncLifetime
{
    private const string Key = "a-key-of-sixteen-or-more";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(20);
    private readonly List<Socket> _sockets = [];
    private FakeServer? _server;

    public ValueTask InitializeAsync() => ValueTask.CompletedTask;

    public async ValueTask DisposeAsync()
    {
        _sockets.ForEach(s => s.Dispose());
        if (_server is not null)
        {
            await _server.DisposeAsync();
        }
    }

    [Fact]
    public async Task Silent_connections_are_reset_oldest_first_and_an_admitted_one_stays_open()
    {
        await StartAsync(total: 4);
        var admitted = await ConnectAsync();
        Assert.Equal([200], await AskAsync(admitted, Request(Key)));
        var silent = new List<Socket>();
        for (var i = 0; i < 20; i++)
        {
            silent.Add(await ConnectAsync());
            await CountsAsync(Math.Min(i + 1, 3), 1);
        }

        foreach (var socket in silent[..17])
        {
            await IsResetAsync(socket);
        }

        Assert.Equal(17, _server!.Metrics.Count(ClosingReason.Evicted));
        Assert.Equal([200], await AskAsync(admitted, Request(Key)));
        // The youngest connection is still open and can send a request.
        Assert.Equal([200], await AskAsync(silent[19], Request(Key)));
    }

    [Fact]
    public async Task A_new_connection_is_reset_if_all_others_have_shown_a_key()
    {
        await StartAsync(total: 2);
        var (first, second) = (await ConnectAsync(), await ConnectAsync());
        Assert.Equal([200], await AskAsync(first, Request(Key)));
        Assert.Equal([200], await AskAsync(second, Request(Key)));
        await IsResetAsync(await ConnectAsync());
        Assert.Equal(1, _server!.Metrics.Count(ClosingReason.Full));
        Assert.Equal([200], await AskAsync(first, Request(Key)));
        second.Dispose();
        await CountsAsync(0, 1);
        Assert.Equal([200], await AskAsync(await ConnectAsync(), Request(Key)));
    }

    [Fact]
    public async Task A_connection_silent_for_five_seconds_or_stalled_for_ten_is_reset()
    {
        await StartAsync(total: 10);
        var (silent, stalled) = (await ConnectAsync(), await ConnectAsync());
        await SpeakAsync(stalled);
        await CountsAsync(2, 0);
        _server!.Node.Time.Advance(TimeSpan.FromSeconds(5));
        await IsResetAsync(silent);
        await CountsAsync(1, 0);
        await stalled.SendAsync("E"u8.ToArray());
        _server.Node.Time.Advance(TimeSpan.FromSeconds(5));
        await IsResetAsync(stalled);
        await CountsAsync(0, 0);
        Assert.Equal((1, 1), (_server.Metrics.Count(ClosingReason.FirstByte), _server.Metrics.Count(ClosingReason.Headers)));
    }

    [Theory]
    [InlineData("/sandboxes", "Host: localhost", 401)]
    [InlineData("/ready", "Host: localhost", 200)]
    [InlineData("/sandboxes", "Host: evil.example", 400)]
    [InlineData("/sandboxes", "Host: localhost\r\nOrigin: http://evil.example", 403)]
    public async Task A_request_without_a_valid_key_is_no_admission(string path, string headers, int status)
    {
        await StartAsync(total: 2);
        var socket = await ConnectAsync();
        Assert.Equal([status], await AskAsync(socket, $"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n"));
        await CountsAsync(1, 0);
        Assert.Equal([status], await AskAsync(socket, $"GET {path} HTTP/1.1\r\n{headers}\r\n\r\n"));
        _server!.Node.Time.Advance(TimeSpan.FromSeconds(10));
        await IsResetAsync(socket);
        Assert.Equal(1, _server.Metrics.Count(ClosingReason.Headers));
    }

    [Fact]
    public async Task Requests_in_one_packet_are_each_checked()
    {
        await StartAsync(total: 2);
        var socket = await ConnectAsync();
        Assert.Equal([401, 200, 401], await AskAsync(socket, Request("a-wrong-key-0123456789") + Request(Key) + Request(null)));
        await CountsAsync(0, 1);
        _server!.Node.Time.Advance(TimeSpan.FromSeconds(60));
        Assert.Equal([200], await AskAsync(socket, Request(Key)));
    }

    [Fact]
    public async Task A_request_that_comes_byte_by_byte_is_answered()
    {
        await StartAsync(total: 2);
        var socket = await ConnectAsync();
        foreach (var letter in Encoding.ASCII.GetBytes(Request(Key))[..^1])
        {
            await socket.SendAsync(new[] { letter });
        }

        Assert.Equal([200], await AskAsync(socket, "\n"));
        await CountsAsync(0, 1);
    }

    [Fact]
    public async Task Without_keys_the_first_request_is_admission()
    {
        await StartAsync(total: 2, keys: "");
        var socket = await ConnectAsync();
        await CountsAsync(1, 0);
        Assert.Equal([200], await AskAsync(socket, Request(null)));
        await CountsAsync(0, 1);
    }

    [Fact]
    public async Task Each_address_has_its_own_limit()
    {
        await StartAsync(total: 10, perAddress: 2, isExempt: a => a.Equals(IPAddress.Loopback));
        var first = await ConnectAsync("127.0.0.2");
        await CountsAsync(1, 0);
        var second = await ConnectAsync("127.0.0.2");
        var other = await ConnectAsync("127.0.0.3");
        for (var i = 0; i < 5; i++)
        {
            await ConnectAsync();
        }

        await CountsAsync(8, 0);
        await ConnectAsync("127.0.0.2");
        await IsResetAsync(first);
        await CountsAsync(8, 0);
        Assert.Equal(1, _server!.Metrics.Count(ClosingReason.Address));
        Assert.Equal([200], await AskAsync(second, Request(Key)));
        Assert.Equal([200], await AskAsync(other, Request(Key)));
    }

    [Fact]
    public async Task Connections_that_clients_close_are_removed_from_the_table()
    {
        await StartAsync(total: 100);
        for (var i = 0; i < 30; i++)
        {
            var socket = await ConnectAsync();
            switch (i % 3)
            {
                case 1:
                    await socket.SendAsync("GET"u8.ToArray());
                    break;
                case 2:
                    Assert.Equal([401], await AskAsync(socket, Request(null)));
                    break;
            }

            // Half of the connections are closed in order, and half with a reset.
            if (i % 2 == 0)
            {
                socket.LingerState = new LingerOption(true, 0);
            }

            socket.Dispose();
        }

        await CountsAsync(0, 0);
        Assert.Equal(0, _server!.Metrics.RefusedForWantOfRoom);
    }

    [Fact]
    public async Task A_stop_does_not_wait_for_silent_connections()
    {
        await StartAsync(total: 10);
        var (silent, stalled) = (await ConnectAsync(), await ConnectAsync());
        await stalled.SendAsync("G"u8.ToArray());
        await CountsAsync(2, 0);
        await _server!.DisposeAsync().AsTask().WaitAsync(Patience, TestContext.Current.CancellationToken);
        _server = null;
        await IsResetAsync(silent);
        await IsResetAsync(stalled);
    }

    private static string Request(string? key) =>
        $"GET /sandboxes HTTP/1.1\r\nHost: localhost\r\n{(key is null ? "" : $"Authorization: Bearer {key}\r\n")}\r\n";

    private async Task StartAsync(int total, int perAddress = 100, Func<IPAddress, bool>? isExempt = null, string keys = Key) =>
        _server = await FakeServer.StartAsync(new ServerOptions { ApiKeys = keys }, onLoopback: true,
            limits: new ConnectionLimits(total, perAddress, isExempt ?? IPAddress.IsLoopback));

    private async Task<Socket> ConnectAsync(string from = "127.0.0.1")
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        _sockets.Add(socket);
        socket.Bind(new IPEndPoint(IPAddress.Parse(from), 0));
        try
        {
            await socket.ConnectAsync(IPAddress.Loopback, _server!.Http.BaseAddress!.Port);
        }
        catch (SocketException e) when (e.SocketErrorCode == SocketError.ConnectionReset)
        {
            // The server reset the connection before the client knew that it was connected.
        }

        return socket;
    }

    // Sends the first byte of a connection, and waits until Kestrel has received the connection.
    private async Task SpeakAsync(Socket socket)
    {
        var given = new TaskCompletionSource();
        using var listener = new MeterListener();
        listener.InstrumentPublished = (instrument, me) =>
        {
            if (instrument.Name == "kestrel.active_connections" && instrument.Meter.Scope == _server!.Node.Meters)
            {
                me.EnableMeasurementEvents(instrument);
            }
        };
        listener.SetMeasurementEventCallback<long>((_, _, _, _) => given.TrySetResult());
        listener.Start();
        await socket.SendAsync("G"u8.ToArray());
        await given.Task.WaitAsync(Patience);
    }

    // Sends requests and returns the status code of the answer to each.
    private static async Task<IReadOnlyList<int>> AskAsync(Socket socket, string requests)
    {
        await socket.SendAsync(Encoding.ASCII.GetBytes(requests));
        var count = Math.Max(1, requests.Split("HTTP/1.1\r\n").Length - 1);
        var buffer = new byte[16 * 1024];
        var text = "";
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (text.Split("HTTP/1.1 ") is var answers && (answers.Length - 1 < count || !answers[1..].All(IsWhole)))
        {
            var read = await socket.ReceiveAsync(buffer, SocketFlags.None, limit.Token);
            Assert.True(read > 0, $"closed after: {text}");
            text += Encoding.ASCII.GetString(buffer, 0, read);
        }

        return [.. text.Split("HTTP/1.1 ")[1..].Select(a => int.Parse(a[..3]))];
    }

    // Whether an answer has the length that its header names, or ends with the empty chunk.
    private static bool IsWhole(string answer)
    {
        var end = answer.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        var length = Length().Match(answer);
        return end >= 0 && (length.Success
            ? answer.Length - end - 4 == int.Parse(length.Groups[1].Value)
            : answer.EndsWith("0\r\n\r\n", StringComparison.Ordinal));
    }

    [GeneratedRegex(@"(?i)content-length: (\d+)")]
    private static partial Regex Length();

    // Asserts that the connection was reset, and not closed in order, which is a read of no bytes.
    private static async Task IsResetAsync(Socket socket)
    {
        if (!socket.Connected)
        {
            // The connection was reset before the client knew that it was connected.
            return;
        }

        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        var end = await Assert.ThrowsAsync<SocketException>(async () =>
        {
            while (await socket.ReceiveAsync(new byte[1024], SocketFlags.None, limit.Token) > 0)
            {
                // Skips the answers that came before the reset.
            }
        });
        Assert.Equal(SocketError.ConnectionReset, end.SocketErrorCode);
    }

    private async Task CountsAsync(int unadmitted, int admitted)
    {
        using var limit = new CancellationTokenSource(Patience, TimeProvider.System);
        while (_server!.Connections.Counts != (unadmitted, admitted))
        {
            Assert.False(limit.IsCancellationRequested, $"{_server.Connections.Counts} instead of {(unadmitted, admitted)}");
            await Task.Delay(TimeSpan.FromMilliseconds(1), TimeProvider.System);
        }
    }
}
