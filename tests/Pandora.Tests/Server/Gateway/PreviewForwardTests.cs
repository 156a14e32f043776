using System.Net;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Pandora.Engine;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>What passes through a preview, to real programs on real connections.</summary>
public sealed class PreviewForwardTests
{
    private const int Port = 3000;
    private const string Reports = "NEL: {\"report_to\":\"a\",\"max_age\":999,\"include_subdomains\":true}\r\n"
        + "Report-To: {\"group\":\"a\",\"max_age\":999,\"endpoints\":[{\"url\":\"https://evil.example\"}]}\r\n"
        + "Reporting-Endpoints: a=\"https://evil.example\"\r\n";

    private static readonly TimeSpan Limit = TimeSpan.FromSeconds(20);

    [Fact]
    public async Task A_request_arrives_as_it_was_sent_without_what_is_not_the_guests()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        var host = world.HostOf(Port);
        var answer = await world.SendRawAsync(
            $"PATCH /a%2Fb/../c%20d?x=%31&y=a+b;c HTTP/1.1\r\nHost: {host.ToUpperInvariant()}\r\nAccept: x/y\r\n"
                + "Authorization: Basic YTpi\r\nX-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Host: evil.example\r\n"
                + "X-FORWARDED-Proto: gopher\r\nForwarded: for=192.0.2.1\r\n"
                + "X-Cluster-Client-IP: 192.0.2.1\r\nCF-Connecting-IPv6: 2001:db8::1\r\nFly-Client-IP: 192.0.2.1\r\n"
                + "X-Azure-ClientIP: 192.0.2.1\r\nX-Envoy-External-Address: 192.0.2.1\r\nVia: 1.1 192.0.2.1\r\n"
                + "X_Forwarded_For: 192.0.2.1\r\nX-Forwarded_Proto: gopher\r\nx_real_ip: 192.0.2.1\r\n"
                + "X-Real-IP: 192.0.2.1\r\nCookie: a=b; pandora_preview=x; c=d\r\nCookie: __Host-pandora_preview=y\r\nX-Own: \xc3\xa9\r\n"
                + "Content-Length: 3\r\nConnection: close\r\n\r\nabc");
        Assert.StartsWith("HTTP/1.1 200 OK\r\n", answer, StringComparison.Ordinal);
        var body = answer[answer.IndexOf('{', StringComparison.Ordinal)..(answer.LastIndexOf('}') + 1)];
        var echo = System.Text.Json.JsonDocument.Parse(body).RootElement;
        Assert.Equal("PATCH", echo.GetProperty("method").GetString());
        Assert.Equal("/a%2Fb/../c%20d?x=%31&y=a+b;c", echo.GetProperty("target").GetString());
        Assert.Equal("abc", echo.GetProperty("body").GetString());
        var headers = echo.GetProperty("headers").EnumerateObject().ToDictionary(h => h.Name, h => h.Value.GetString());
        Assert.Equal(
            ["accept", "authorization", "content-length", "cookie", "host", "x-forwarded-host", "x-forwarded-proto", "x-own"],
            headers.Keys.Order(StringComparer.Ordinal));
        Assert.Equal(("x/y", "Basic YTpi", "a=b; c=d"), (headers["accept"], headers["authorization"], headers["cookie"]));
        Assert.Equal((host.ToUpperInvariant(), host.ToUpperInvariant(), "http"),
            (headers["host"], headers["x-forwarded-host"], headers["x-forwarded-proto"]));
        // The bytes are UTF-8, read as if they were Latin-1.
        Assert.Equal("Ã©", headers["x-own"]);
    }

    [Fact]
    public async Task An_answer_arrives_as_it_was_sent_without_what_is_not_the_guests_to_say()
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Answer(
            Port,
            "HTTP/1.1 201 Made It\r\nContent-Length: 2\r\nLocation: https://elsewhere.example/\r\n"
                + "Set-Cookie: a=b; DOMAIN=localhost; Path=/\r\nSet-Cookie: pandora_preview=mine\r\nSet-Cookie: c=d\r\n"
                + "Strict-Transport-Security: max-age=999\r\nAlt-Svc: h3=\":443\"\r\n" + Reports
                + "Service-Worker-Allowed: /\r\nX-Own: \xe9\r\nContent-Encoding: gzip\r\n\r\nno");
        using var answer = await world.GetAsync(Port);
        Assert.Equal((HttpStatusCode.Created, "Made It"), (answer.StatusCode, answer.ReasonPhrase));
        Assert.Equal("https://elsewhere.example/", answer.Headers.Location?.ToString());
        Assert.Equal(["a=b; Path=/", "c=d"], answer.Headers.GetValues("Set-Cookie"));
        Assert.Equal("/", answer.Headers.GetValues("Service-Worker-Allowed").Single());
        Assert.Equal("é", answer.Headers.GetValues("X-Own").Single());
        Assert.False(answer.Headers.Contains("Strict-Transport-Security"));
        Assert.False(answer.Headers.Contains("Alt-Svc"));
        AssertNoReports(answer);
        // It is not decoded on the way.
        Assert.Equal("no", await answer.Content.ReadAsStringAsync());
    }

    [Fact]
    public async Task Bodies_of_64_MiB_pass_both_ways_unchanged()
    {
        await using var world = await PreviewWorld.StartAsync();
        var bytes = RandomNumberGenerator.GetBytes(1024 * 1024);
        const int Pieces = 64;
        var expected = HashOf(bytes, Pieces);
        await world.ServeAsync(Port, app =>
        {
            app.MapPut("/up", async (HttpRequest request) =>
                Convert.ToHexString(await SHA256.HashDataAsync(request.Body)));
            app.MapGet("/down", async (HttpResponse response) =>
            {
                for (var i = 0; i < Pieces; i++)
                {
                    await response.Body.WriteAsync(bytes);
                }
            });
        });
        using var upload = new HttpRequestMessage(HttpMethod.Put, "/up") { Content = new StreamContent(new Repeated(bytes, Pieces)) };
        upload.Headers.Host = world.HostOf(Port);
        upload.Headers.ExpectContinue = true;
        using var sent = await world.Api.Http.SendAsync(upload);
        Assert.Equal(expected, await sent.Content.ReadAsStringAsync());
        using var download = await world.GetAsync(Port, "/down");
        Assert.Equal(expected, Convert.ToHexString(await SHA256.HashDataAsync(await download.Content.ReadAsStreamAsync())));
    }

    [Fact]
    public async Task Events_arrive_one_by_one()
    {
        await using var world = await PreviewWorld.StartAsync();
        using var next = new SemaphoreSlim(0);
        await world.ServeAsync(Port, app => app.MapGet("/", async (HttpContext context) =>
        {
            context.Response.ContentType = "text/event-stream";
            for (var i = 0; i < 3; i++)
            {
                await context.Response.WriteAsync($"data: {i}\n\n");
                await context.Response.Body.FlushAsync();
                await next.WaitAsync(context.RequestAborted);
            }
        }));
        using var answer = await world.GetAsync(Port, "/", ("Accept", "text/event-stream"));
        using var reader = new StreamReader(await answer.Content.ReadAsStreamAsync());
        for (var i = 0; i < 3; i++)
        {
            // The program sends the next one only when this one is here.
            Assert.Equal($"data: {i}", await reader.ReadLineAsync().WaitAsync(Limit));
            Assert.Equal("", await reader.ReadLineAsync());
            next.Release();
        }

        Assert.Null(await reader.ReadLineAsync().WaitAsync(Limit));
    }

    [Fact]
    public async Task A_WebSocket_passes_bytes_both_ways_and_counts_as_activity_only_when_they_move()
    {
        await using var world = await PreviewWorld.StartAsync();
        await EchoSocketAsync(world);
        using var socket = await OpenSocketAsync(world);
        var sandbox = world.Api.Node.Sandboxes.GetFor(world.Id, SandboxOperation.Port);
        Assert.Equal("hello", await RoundTripAsync(socket, "hello"));
        Assert.Equal(TimeSpan.Zero, sandbox.Status.Idle);
        // The server notes that bytes moved a moment after they did.
        await FakeNode.UntilAsync(() =>
        {
            world.Api.Node.Time.Advance(TimeSpan.FromSeconds(30));
            return sandbox.Status.Idle >= TimeSpan.FromSeconds(30);
        });
        Assert.Equal(new string('x', 100_000), await RoundTripAsync(socket, new string('x', 100_000)));
        await FakeNode.UntilAsync(() => sandbox.Status.Idle == TimeSpan.Zero);
        await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, "done", CancellationToken.None).WaitAsync(Limit);
        Assert.Equal(WebSocketCloseStatus.NormalClosure, socket.CloseStatus);
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.Ok) == 1);
    }

    [Fact]
    public async Task The_expiry_of_a_link_cuts_what_it_began()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await EchoSocketAsync(world);
        var token = await world.LinkAsync(Port, PreviewWorld.Admin, """{"expires_in": 60}""");
        using var byQuery = await OpenSocketAsync(world, $"?pandora_link={token}");
        using var byCookie = await OpenSocketAsync(world, "", ("Cookie", $"pandora_preview={token}"));
        using var byKey = await OpenSocketAsync(world, "", ("X-API-Key", PreviewWorld.Admin));
        world.Api.Node.Time.Advance(TimeSpan.FromSeconds(59));
        Assert.Equal("a", await RoundTripAsync(byQuery, "a"));
        Assert.Equal("b", await RoundTripAsync(byCookie, "b"));
        world.Api.Node.Time.Advance(TimeSpan.FromSeconds(2));
        await AssertCutAsync(byQuery);
        await AssertCutAsync(byCookie);
        Assert.Equal("c", await RoundTripAsync(byKey, "c"));
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.Cancelled) == 2);
    }

    [Fact]
    public async Task A_revoked_key_cuts_what_it_and_its_links_began()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        await EchoSocketAsync(world);
        var (key, other) = (await world.AddKeyAsync("default"), await world.AddKeyAsync("default", name: "other"));
        var token = await world.LinkAsync(Port, key);
        using var byKey = await OpenSocketAsync(world, "", ("X-API-Key", key));
        using var byLink = await OpenSocketAsync(world, $"?pandora_link={token}");
        using var byOther = await OpenSocketAsync(world, "", ("X-API-Key", other));
        await world.RevokeAsync(key);
        world.Api.Node.Time.Advance(Access.Interval);
        await AssertCutAsync(byKey);
        await AssertCutAsync(byLink);
        Assert.Equal("c", await RoundTripAsync(byOther, "c"));
    }

    [Fact]
    public async Task Connections_are_kept_by_sandbox_and_port()
    {
        await using var world = await PreviewWorld.StartAsync();
        foreach (var port in new[] { 3000, 3001 })
        {
            await world.ServeAsync(port, app => app.Run(c => c.Response.WriteAsync($"{port} {c.Connection.Id}")));
        }

        var (first, second) = (await TextAsync(3000), await TextAsync(3000));
        Assert.StartsWith("3000 ", first, StringComparison.Ordinal);
        Assert.Equal(first, second);
        Assert.StartsWith("3001 ", await TextAsync(3001), StringComparison.Ordinal);
        // The same address in another guest: a kept connection of the first would answer.
        var other = await world.Api.CreateAsync();
        world.Api.Node.GuestOf(other).Ports[3000] = world.Guest.Ports[3001];
        Assert.StartsWith("3001 ", await TextAsync(3000, other), StringComparison.Ordinal);
        Assert.Equal(first, await TextAsync(3000));
        await world.Api.SendAsync(HttpMethod.Delete, $"/sandboxes/{world.Id}");
        using var gone = await world.GetAsync(3000);
        Assert.Equal(HttpStatusCode.Gone, gone.StatusCode);

        async Task<string> TextAsync(int port, string? id = null)
        {
            using var answer = await world.SendAsync(HttpMethod.Get, world.HostOf(port, id));
            return await answer.Content.ReadAsStringAsync();
        }
    }

    [Fact]
    public async Task The_only_changes_below_the_domain_are_those_that_reach_siblings()
    {
        await using var world = await PreviewWorld.StartAsync(hasDomain: true);
        world.Answer(
            Port,
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nStrict-Transport-Security: max-age=999\r\nClear-Site-Data: \"cookies\"\r\n"
                + Reports
                + $"Set-Cookie: a=b; Domain={PreviewWorld.Domain}\r\nSet-Cookie: __Host-pandora_preview=x; Secure; Path=/\r\n\r\n");
        using var answer = await world.SendAsync(HttpMethod.Get, world.DomainHostOf(Port));
        Assert.True(answer.Headers.Contains("Strict-Transport-Security"));
        Assert.False(answer.Headers.Contains("Clear-Site-Data"));
        AssertNoReports(answer);
        Assert.Equal("a=b", answer.Headers.GetValues("Set-Cookie").Single());
    }

    private static void AssertNoReports(HttpResponseMessage answer) =>
        Assert.All(["NEL", "Report-To", "Reporting-Endpoints"], n => Assert.False(answer.Headers.Contains(n)));

    private static Task EchoSocketAsync(PreviewWorld world) => world.ServeAsync(Port, app =>
    {
        app.UseWebSockets();
        app.Run(async context =>
        {
            using var socket = await context.WebSockets.AcceptWebSocketAsync();
            var buffer = new byte[16 * 1024];
            while (await socket.ReceiveAsync(buffer.AsMemory(), context.RequestAborted) is var got
                && got.MessageType != WebSocketMessageType.Close)
            {
                await socket.SendAsync(buffer.AsMemory(0, got.Count), got.MessageType, got.EndOfMessage, context.RequestAborted);
            }

            await socket.CloseAsync(WebSocketCloseStatus.NormalClosure, null, context.RequestAborted);
        });
    });

    private static async Task<ClientWebSocket> OpenSocketAsync(
        PreviewWorld world, string query = "", params (string Name, string Value)[] headers)
    {
        var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("Host", world.HostOf(Port));
        foreach (var (name, value) in headers)
        {
            socket.Options.SetRequestHeader(name, value);
        }

        await socket.ConnectAsync(new Uri($"ws://127.0.0.1:{world.Api.Http.BaseAddress!.Port}/{query}"), CancellationToken.None)
            .WaitAsync(Limit);
        return socket;
    }

    private static async Task<string> RoundTripAsync(ClientWebSocket socket, string text)
    {
        await socket.SendAsync(Encoding.UTF8.GetBytes(text), WebSocketMessageType.Text, endOfMessage: true, CancellationToken.None);
        var (all, buffer) = (new StringBuilder(), new byte[16 * 1024]);
        WebSocketReceiveResult got;
        do
        {
            got = await socket.ReceiveAsync(buffer, CancellationToken.None).WaitAsync(Limit);
            all.Append(Encoding.UTF8.GetString(buffer, 0, got.Count));
        }
        while (!got.EndOfMessage);

        return all.ToString();
    }

    private static async Task AssertCutAsync(ClientWebSocket socket)
    {
        await Assert.ThrowsAsync<WebSocketException>(() => socket.ReceiveAsync(new byte[10], CancellationToken.None).WaitAsync(Limit));
        Assert.Equal(WebSocketState.Aborted, socket.State);
    }

    private static string HashOf(byte[] bytes, int times)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (var i = 0; i < times; i++)
        {
            hash.AppendData(bytes);
        }

        return Convert.ToHexString(hash.GetHashAndReset());
    }

    /// <summary>The same bytes, several times.</summary>
    private sealed class Repeated(byte[] bytes, int times) : MemoryStream(bytes, writable: false)
    {
        private int _left = times - 1;

        public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
        {
            if (Position == Length && _left > 0)
            {
                (Position, _left) = (0, _left - 1);
            }

            return await base.ReadAsync(buffer, cancellationToken);
        }

        public override async Task CopyToAsync(Stream destination, int bufferSize, CancellationToken cancellationToken)
        {
            var buffer = new byte[bufferSize];
            while (await ReadAsync(buffer, cancellationToken) is > 0 and var count)
            {
                await destination.WriteAsync(buffer.AsMemory(0, count), cancellationToken);
            }
        }

        public override bool CanSeek => false;
    }
}
