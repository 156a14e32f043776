using System.Net;
using System.Net.Sockets;
using System.Text;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Gateway;

/// <summary>What becomes of the connections on which viewers of a preview come.</summary>
public sealed class PreviewConnectionTests : IDisposable
{
    private const int Port = 3000;
    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);
    private readonly SemaphoreSlim _came = new(0);
    private readonly TaskCompletionSource _answer = new();

    public void Dispose()
    {
        _answer.TrySetResult();
        _came.Dispose();
    }

    [Theory]
    [InlineData("public")]
    [InlineData("link")]
    [InlineData("cookie")]
    public async Task A_viewers_request_lives_longer_than_the_limit_of_headers_and_its_connection_not_longer_than_that_after_it(
        string way)
    {
        await using var world = await StartAsync(total: 10);
        using var viewer = await VisitAsync(world, await RequestAsync(world, way));
        // The limit is checked each second.
        for (var i = 0; i < 60; i++)
        {
            world.Api.Node.Time.Advance(TimeSpan.FromSeconds(1));
        }

        _answer.SetResult();
        Assert.EndsWith("\r\n\r\ndone", await ReadAsync(viewer, "done"), StringComparison.Ordinal);
        var end = PreviewWorld.ReadToEndAsync(viewer);
        while (!end.IsCompleted)
        {
            world.Api.Node.Time.Advance(TimeSpan.FromSeconds(1));
            await Task.Delay(TimeSpan.FromMilliseconds(5), TimeProvider.System);
        }

        Assert.Equal("", await end);
        Assert.Equal(1, world.Api.Metrics.Count(ClosingReason.Headers));
    }

    [Theory]
    [InlineData("public")]
    [InlineData("link")]
    [InlineData("cookie")]
    public async Task Viewers_that_take_all_places_make_room_for_clients_with_a_key_the_oldest_first(string way)
    {
        const int Viewers = 3;
        // One more for the client that made the sandbox.
        await using var world = await StartAsync(total: Viewers + 1);
        var request = await RequestAsync(world, way);
        var viewers = new List<Socket>();
        for (var i = 0; i < Viewers; i++)
        {
            viewers.Add(await VisitAsync(world, request));
        }

        Assert.Equal((Viewers, 1), world.Api.Connections.Counts);
        var clients = new List<Socket>();
        for (var i = 0; i < Viewers; i++)
        {
            clients.Add(await world.ConnectAsync());
            await SendAsync(clients[i], $"GET /sandboxes HTTP/1.1\r\nHost: localhost\r\nX-API-Key: {PreviewWorld.Admin}\r\n\r\n");
            Assert.StartsWith("HTTP/1.1 200", await ReadAsync(clients[i], "\r\n\r\n"), StringComparison.Ordinal);
            Assert.Equal("", await PreviewWorld.ReadToEndAsync(viewers[i]));
            Assert.Equal(i + 1, world.Api.Metrics.Count(ClosingReason.Evicted));
        }

        Assert.Equal((0, Viewers + 1), world.Api.Connections.Counts);
        viewers.ForEach(v => v.Dispose());
        clients.ForEach(c => c.Dispose());
    }

    private static async Task<PreviewWorld> StartAsync(int total)
    {
        var api = await FakeServer.StartAsync(
            new ServerOptions { ApiKeys = PreviewWorld.Admin }, onLoopback: true,
            limits: new ConnectionLimits(total, total, IPAddress.IsLoopback));
        api.Http.DefaultRequestHeaders.Add("X-API-Key", PreviewWorld.Admin);
        return await PreviewWorld.OnAsync(api);
    }

    // A viewer's request, and a program that holds the answer to it.
    private async Task<string> RequestAsync(PreviewWorld world, string way)
    {
        world.Listen(Port, async stream =>
        {
            await PreviewWorld.ReadHeadAsync(stream);
            _came.Release();
            await _answer.Task;
            await stream.WriteAsync("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone"u8.ToArray());
        });
        if (way == "public")
        {
            await world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port)
                .SetPublicAsync(Port, isPublic: true, CancellationToken.None);
            return $"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\n\r\n";
        }

        var token = await world.LinkAsync(Port);
        return way == "link"
            ? $"GET /?pandora_link={token} HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\n\r\n"
            : $"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nCookie: pandora_preview={token}\r\n\r\n";
    }

    private async Task<Socket> VisitAsync(PreviewWorld world, string request)
    {
        var viewer = await world.ConnectAsync();
        await SendAsync(viewer, request);
        Assert.True(await _came.WaitAsync(Limit));
        return viewer;
    }

    private static async Task SendAsync(Socket socket, string text) => await socket.SendAsync(Encoding.ASCII.GetBytes(text));

    private static async Task<string> ReadAsync(Socket socket, string end)
    {
        using var limit = new CancellationTokenSource(Limit, TimeProvider.System);
        var (text, buffer) = ("", new byte[16 * 1024]);
        while (!text.Contains(end, StringComparison.Ordinal))
        {
            var count = await socket.ReceiveAsync(buffer, limit.Token);
            Assert.True(count > 0, $"closed after: {text}");
            text += Encoding.ASCII.GetString(buffer, 0, count);
        }

        return text;
    }
}
