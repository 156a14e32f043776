using System.Net;
using Pandora.Contracts;
using Pandora.Fakes;
using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>Hostile requests: by Host headers, by pages of other sites, and by what is no request.</summary>
public sealed class PreviewHostileTests
{
    private const int Port = 3000;

    [Theory]
    [InlineData("/metrics")]
    [InlineData("/health")]
    [InlineData("/ready")]
    [InlineData("/docs")]
    [InlineData("/openapi/v1.json")]
    [InlineData("/sandboxes")]
    [InlineData("//sandboxes")]
    public async Task No_path_of_a_preview_is_one_of_the_API(string path)
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        var name = world.HostOf(Port);
        string[] hosts = [name, name.ToUpperInvariant(), name.Replace(":", ".:"), $"{Port}-{world.Id}.localhost:1"];
        foreach (var host in hosts)
        {
            // In origin form, and in absolute form as to a proxy.
            var origin = await world.SendRawAsync($"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            Assert.Contains($"\"target\":\"{path}\"", origin, StringComparison.Ordinal);
            var absolute = await world.SendRawAsync($"GET http://{host}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
            // The web server reads the address in its normal form, and refuses a Host header that differs from it.
            var isRefused = absolute.StartsWith("HTTP/1.1 400 ", StringComparison.Ordinal) && host != name;
            Assert.True(isRefused || absolute.Contains($"\"target\":\"{path}\"", StringComparison.Ordinal), absolute);
        }

        var closed = await world.SendRawAsync($"GET {path} HTTP/1.1\r\nHost: {world.HostOf(Port + 1)}\r\nConnection: close\r\n\r\n");
        Assert.Contains("\"code\":\"port_closed\"", closed, StringComparison.Ordinal);
    }

    [Theory]
    // The target and the Host header differ, there are two Host headers, or there is no valid one: the web server refuses.
    [InlineData("GET http://127.0.0.1/sandboxes HTTP/1.1\r\nHost: HOST\r\n", 400)]
    [InlineData("GET http://HOST/ HTTP/1.1\r\nHost: 127.0.0.1\r\n", 400)]
    [InlineData("GET / HTTP/1.1\r\nHost: HOST\r\nHost: 127.0.0.1\r\n", 400)]
    [InlineData("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: HOST\r\n", 400)]
    [InlineData("GET / HTTP/1.1\r\nHost: user@HOST\r\n", 400)]
    [InlineData("GET / HTTP/1.1\r\nHost: HOST/x\r\n", 400)]
    [InlineData("GET / HTTP/1.1\r\nHost: x.HOST\r\n", 400)]
    // The API's: it has no route for it.
    [InlineData("GET / HTTP/1.1\r\nHost:\r\n", 404)]
    [InlineData("GET / HTTP/1.1\r\n", 400)]
    [InlineData("CONNECT HOST HTTP/1.1\r\nHost: HOST\r\n", 405)]
    [InlineData("CONNECT 127.0.0.1:22 HTTP/1.1\r\nHost: HOST\r\n", 400)]
    // Two lengths: a body that the guest and the server might end at different places.
    [InlineData("POST / HTTP/1.1\r\nHost: HOST\r\nContent-Length: 5\r\nContent-Length: 6\r\n", 400)]
    [InlineData("POST / HTTP/1.1\r\nHost: HOST\r\nTransfer-Encoding: chunked, identity\r\n", 400)]
    [InlineData("GET /\r\nX: y HTTP/1.1\r\nHost: HOST\r\n", 400)]
    public async Task A_request_with_two_meanings_reaches_nobody(string request, int status)
    {
        await using var world = await PreviewWorld.StartAsync();
        var requests = 0;
        await world.ServeAsync(Port, app => Microsoft.AspNetCore.Builder.RunExtensions.Run(app, _ =>
        {
            Interlocked.Increment(ref requests);
            return Task.CompletedTask;
        }));
        var answer = await world.SendRawAsync(
            request.Replace("HOST", world.HostOf(Port), StringComparison.Ordinal) + "Connection: close\r\n\r\n");
        Assert.StartsWith($"HTTP/1.1 {status} ", answer, StringComparison.Ordinal);
        Assert.Equal(0, requests);
    }

    [Theory]
    [InlineData("/a\rb")]
    [InlineData("/a\r")]
    [InlineData("/a\tb")]
    [InlineData("/a\u000bb")]
    [InlineData("/a\u007fb")]
    [InlineData("/?a=\rb")]
    [InlineData("/?a=\tb&pandora_link=x")]
    [InlineData("http://HOST/a\tb")]
    [InlineData("http://HOST/?a\rb")]
    public async Task A_target_with_a_control_character_reaches_nobody(string target)
    {
        await using var world = await PreviewWorld.StartAsync();
        var requests = 0;
        world.Listen(Port, _ =>
        {
            Interlocked.Increment(ref requests);
            return Task.CompletedTask;
        });
        var answer = await world.SendRawAsync(
            $"GET {target} HTTP/1.1\r\nHost: HOST\r\nConnection: close\r\n\r\n".Replace(
                "HOST", world.HostOf(Port), StringComparison.Ordinal));
        Assert.StartsWith("HTTP/1.1 400 ", answer, StringComparison.Ordinal);
        Assert.Contains($"\"code\":\"{ErrorCodes.InvalidRequest.Code}\"", answer, StringComparison.Ordinal);
        Assert.Equal(0, requests);
    }

    [Fact]
    public async Task A_smuggled_request_is_the_body_of_the_one_before_it()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        // The length is dropped where the body is in chunks, and the connection ends with the answer (RFC 9112, section 6.3).
        var answer = await world.SendRawAsync(
            $"POST / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n"
                + "2b\r\nGET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n\r\n0\r\n\r\n"
                + "GET /ready HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
        Assert.Contains("\"body\":\"GET /smuggled HTTP/1.1", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("\"content-length\":\"4\"", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("\"target\":\"/smuggled\"", answer, StringComparison.Ordinal);
        Assert.Single(answer.Split("HTTP/1.1 200 OK").Skip(1));
    }

    [Fact]
    public async Task An_upgrade_to_HTTP_2_is_not_passed_on()
    {
        await using var world = await PreviewWorld.StartAsync();
        await world.EchoAsync(Port);
        var answer = await world.SendRawAsync(
            $"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nConnection: Upgrade, HTTP2-Settings, close\r\nUpgrade: h2c\r\n"
                + "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 200 OK", answer, StringComparison.Ordinal);
        Assert.DoesNotContain("\"upgrade\"", answer, StringComparison.OrdinalIgnoreCase);
    }

    [Fact]
    public async Task Below_the_domain_the_API_is_never_served()
    {
        await using var world = await PreviewWorld.StartAsync(hasDomain: true);
        await world.EchoAsync(Port);
        // The name with 'api' is the E2B front end's: below it, no path is one of this API.
        using var e2b = await world.SendAsync(HttpMethod.Get, $"api.{PreviewWorld.Domain}", "/openapi/v1.json");
        Assert.NotEqual(HttpStatusCode.OK, e2b.StatusCode);
        foreach (var host in new[] { PreviewWorld.Domain, "www.previews.example", $"x.{world.DomainHostOf(Port)}", "PREVIEWS.EXAMPLE.:80" })
        {
            using var refused = await world.SendAsync(HttpMethod.Get, host, "/sandboxes");
            Assert.Equal(ErrorCodes.HostNotAllowed.Code, await PreviewWorld.CodeOf(refused));
        }

        using var preview = await world.SendAsync(HttpMethod.Get, world.DomainHostOf(Port).ToUpperInvariant() + ".:443", "/sandboxes");
        Assert.Equal("/sandboxes", (await PreviewWorld.EchoOf(preview)).GetProperty("target").GetString());
    }

    // Of a viewer with a cookie, of one with a link, and of a server that needs no key.
    [Theory]
    [InlineData("GET", "", true)]
    [InlineData("POST", "Origin: OWN", true)]
    [InlineData("POST", "Origin: SIBLING", true)]
    [InlineData("POST", "Origin: SIBLING|Sec-Fetch-Site: cross-site", true)]
    [InlineData("POST", "Origin: null|Sec-Fetch-Site: same-origin", true)]
    [InlineData("POST", "Origin: null", false)]
    [InlineData("POST", "Origin: null|Sec-Fetch-Site: cross-site", false)]
    [InlineData("POST", "Origin: http://evil.example", false)]
    [InlineData("GET", "Origin: http://evil.example", false)]
    [InlineData("POST", "Origin: http://localhost:8000", false)]
    [InlineData("POST", "Origin: OTHER", false)]
    [InlineData("GET", "Origin: http://evil.example|Upgrade: websocket|Connection: Upgrade, close|Sec-WebSocket-Version: 13", false)]
    [InlineData("GET", "Sec-Fetch-Site: none|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", true)]
    [InlineData("GET", "Sec-Fetch-Site: same-origin|Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: image", true)]
    [InlineData("GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", true)]
    [InlineData("HEAD", "Sec-Fetch-Site: same-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", true)]
    [InlineData("POST", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: document", false)]
    [InlineData("GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: iframe", false)]
    [InlineData("GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: navigate|Sec-Fetch-Dest: embed", false)]
    [InlineData("GET", "Sec-Fetch-Site: cross-site|Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: image", false)]
    [InlineData("GET", "Sec-Fetch-Site: same-site|Sec-Fetch-Mode: no-cors|Sec-Fetch-Dest: script", false)]
    public async Task A_page_of_another_site_cannot_use_a_viewers_access(string method, string headers, bool passes)
    {
        await AssertPassesAsync(method, headers, passes, isOpen: true);
        await AssertPassesAsync(method, headers, passes, isOpen: false);
    }

    private static async Task AssertPassesAsync(string method, string headers, bool passes, bool isOpen)
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: !isOpen);
        await world.EchoAsync(Port);
        var token = isOpen ? "" : await world.LinkAsync(Port, PreviewWorld.Admin);
        var sent = headers
            .Replace("OWN", $"http://{world.HostOf(Port)}", StringComparison.Ordinal)
            .Replace("SIBLING", $"http://{world.HostOf(8080)}", StringComparison.Ordinal)
            .Replace("OTHER", $"http://{world.HostOf(Port, "another0sandbox")}", StringComparison.Ordinal)
            .Replace("|", "\r\n", StringComparison.Ordinal);
        var head = $"{method} /QUERY HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nContent-Length: 0\r\n"
            + (sent.Contains("Upgrade", StringComparison.Ordinal) ? "" : "Connection: close\r\n") + (sent.Length > 0 ? sent + "\r\n" : "");
        var byCookie = await world.SendRawAsync(
            head.Replace("QUERY", "", StringComparison.Ordinal) + (isOpen ? "" : $"Cookie: pandora_preview={token}\r\n") + "\r\n");
        Assert.StartsWith($"HTTP/1.1 {(passes ? 200 : 403)} ", byCookie, StringComparison.Ordinal);
        Assert.Equal(!passes, byCookie.Contains(ErrorCodes.ForbiddenOrigin.Code, StringComparison.Ordinal));
        if (!isOpen && !sent.Contains("Upgrade", StringComparison.Ordinal))
        {
            // Who has the link needs no viewer.
            var byLink = await world.SendRawAsync(
                head.Replace("QUERY", $"?pandora_link={token}", StringComparison.Ordinal) + "\r\n");
            Assert.StartsWith("HTTP/1.1 200 ", byLink, StringComparison.Ordinal);
        }
    }

    [Theory]
    [InlineData("Sec-Fetch-Site: cross-site", 403)]
    [InlineData("Sec-Fetch-Site: same-site", 403)]
    [InlineData("Sec-Fetch-Site: same-origin", 200)]
    [InlineData("Sec-Fetch-Site: none", 200)]
    [InlineData("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: document", 200)]
    [InlineData("Sec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Dest: iframe", 403)]
    [InlineData("Origin: http://PREVIEW", 403)]
    public async Task A_page_in_a_preview_cannot_use_the_API(string headers, int status)
    {
        await using var world = await PreviewWorld.StartAsync();
        var answer = await world.SendRawAsync(
            $"GET /sandboxes HTTP/1.1\r\nHost: localhost:{world.Api.Http.BaseAddress!.Port}\r\nConnection: close\r\n"
                + headers.Replace("PREVIEW", world.HostOf(Port), StringComparison.Ordinal) + "\r\n\r\n");
        Assert.StartsWith($"HTTP/1.1 {status} ", answer, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("no HTTP at all")]
    [InlineData("HTTP/1.1 OK\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nbad header\u0001: \r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n")]
    [InlineData("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nbytes")]
    [InlineData("HTTP/1.1 200 OK\r\nX: a\u0007b\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("")]
    public async Task A_program_that_does_not_speak_HTTP_is_said_so(string bytes)
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Answer(Port, bytes);
        using var answer = await world.GetAsync(Port);
        Assert.True(answer.StatusCode == HttpStatusCode.BadGateway, $"{answer}");
        Assert.Equal(ErrorCodes.PortBadAnswer.Code, await PreviewWorld.CodeOf(answer));
        Assert.Equal(1, world.Api.Metrics.Count(PreviewResult.BadAnswer));
    }

    [Theory]
    [InlineData("HTTP/1.1 200 OK\r\n", "X: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n")]
    [InlineData("HTTP/1.1 200 OK\r\nX: ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")]
    [InlineData("HTTP/1.1 200 ", "yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy")]
    public async Task A_head_without_an_end_is_cut_off(string begin, string piece)
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Flood(Port, begin, piece);
        using var answer = await world.GetAsync(Port);
        Assert.Equal(ErrorCodes.PortBadAnswer.Code, await PreviewWorld.CodeOf(answer));
        // What the sockets between hold, and no more.
        Assert.InRange(world.Sent, 0, 16 * 1024 * 1024);
    }

    [Fact]
    public async Task A_flood_of_interim_answers_is_cut_off()
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Flood(Port, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        using var answer = await world.GetAsync(Port);
        Assert.Equal(ErrorCodes.PortBadAnswer.Code, await PreviewWorld.CodeOf(answer));
        Assert.InRange(world.Sent, 0, 16 * 1024 * 1024);
    }

    [Fact]
    public async Task An_answer_that_breaks_off_is_not_made_whole()
    {
        await using var world = await PreviewWorld.StartAsync();
        world.Answer(Port, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
        // The connection is cut, so what was sent need not arrive.
        var answer = await world.SendRawAsync($"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\n\r\n");
        Assert.False(answer.EndsWith("0\r\n\r\n", StringComparison.Ordinal), answer);
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.BadAnswer) == 1);
    }

    [Fact]
    public async Task A_page_of_Pandoras_shows_what_a_client_wrote_as_text()
    {
        await using var world = await PreviewWorld.StartAsync(needsKey: true);
        var token = await world.LinkAsync(Port, PreviewWorld.Admin);
        using var answer = await world.GetAsync(
            Port, "/<script>alert(1)</script>", ("Accept", "text/html"), ("Origin", "http://<script>alert(2)</script>"),
            ("Cookie", $"pandora_preview={token}"));
        Assert.Equal(HttpStatusCode.Forbidden, answer.StatusCode);
        var page = await answer.Content.ReadAsStringAsync();
        Assert.Contains("&lt;script&gt;alert(2)", page, StringComparison.Ordinal);
        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Assert.Equal("default-src 'none'; style-src 'unsafe-inline'", answer.Headers.GetValues("Content-Security-Policy").Single());
        Assert.Equal("nosniff", answer.Headers.GetValues("X-Content-Type-Options").Single());
        Assert.True(answer.Headers.CacheControl?.NoStore);
        Assert.Equal("text/html; charset=utf-8", answer.Content.Headers.ContentType?.ToString());
    }
}
