using Microsoft.AspNetCore.Http;
using Pandora.Contracts;
using Pandora.Fakes;
using Pandora.Server.Gateway;

namespace Pandora.Tests.Gateway;

/// <summary>Answers by which a guest might make the web server fail. None is an error in the log, which guests could fill.</summary>
public sealed class PreviewGuestFaultTests
{
    private const int Port = 3000;

    [Theory]
    [InlineData("GET", "204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204)]
    [InlineData("GET", "204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 204)]
    [InlineData("GET", "204 No Content\r\n\r\nhello", 204)]
    [InlineData("HEAD", "204 No Content\r\nContent-Length: 5\r\n\r\n", 204)]
    [InlineData("POST", "205 Reset Content\r\nContent-Length: 5\r\n\r\nhello", 205)]
    [InlineData("GET", "205 Reset Content\r\nContent-Length: 6\r\n\r\nhello", 205)]
    [InlineData("GET", "205 Reset Content\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 205)]
    [InlineData("GET", "205 Reset Content\r\n\r\nhello", 205)]
    [InlineData("HEAD", "205 Reset Content\r\nContent-Length: 5\r\n\r\n", 205)]
    [InlineData("GET", "304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 304)]
    [InlineData("GET", "304 Not Modified\r\n\r\nhello", 304)]
    [InlineData("HEAD", "200 OK\r\nContent-Length: 5\r\n\r\nhello", 200)]
    [InlineData("HEAD", "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200)]
    // The client makes a space of it.
    [InlineData("GET", "200 OK\r\nX: a\u0000b\r\nContent-Length: 0\r\n\r\n", 200)]
    [InlineData("GET", "999 \u0001\u00ff\r\nContent-Length: 0\r\n\r\n", 999)]
    public async Task An_answer_passes_without_a_body_where_none_may_be(string method, string answer, int status)
    {
        using var log = new KeptLog();
        await using var world = await StartAsync(log);
        world.Answer(Port, "HTTP/1.1 " + answer);
        var got = await SendAsync(world, method);
        Assert.StartsWith($"HTTP/1.1 {status} ", got, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\n", got, StringComparison.Ordinal);
        Assert.DoesNotContain("hello", got, StringComparison.Ordinal);
        Assert.DoesNotContain('\0', got);
        Assert.True(status != 204 || !got.Contains("Content-Length", StringComparison.Ordinal), got);
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.Ok) == 1);
        Assert.Empty(log.Errors);
    }

    [Theory]
    [InlineData("000 Nothing\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("099 Less\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("150 Interim without an end\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("1000 More\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("200 OK\r\nTransfer-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello")]
    [InlineData("200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("200 OK\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n")]
    [InlineData("200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello")]
    [InlineData("200 OK\r\nContent-Length: 5, 5\r\n\r\nhello")]
    [InlineData("200 OK\r\nContent-Length: +5\r\n\r\nhello")]
    [InlineData("200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello")]
    [InlineData("200 OK\r\nContent-Length: 5\r\n\r\n")]
    [InlineData("200 OK\r\nSet-Cookie: a=\u0001\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("200 OK\r\nLocation: /\u007f\r\nContent-Length: 0\r\n\r\n")]
    [InlineData("200 O\rK\r\nContent-Length: 0\r\n\r\n")]
    public async Task An_answer_with_another_fault_is_a_bad_one(string answer)
    {
        using var log = new KeptLog();
        await using var world = await StartAsync(log);
        world.Answer(Port, "HTTP/1.1 " + answer);
        var got = await SendAsync(world, "GET");
        Assert.StartsWith("HTTP/1.1 502 ", got, StringComparison.Ordinal);
        Assert.Contains($"\"code\":\"{ErrorCodes.PortBadAnswer.Code}\"", got, StringComparison.Ordinal);
        Assert.Equal((1, 0), (world.Api.Metrics.Count(PreviewResult.BadAnswer), world.Api.Metrics.Count(PreviewResult.Ok)));
        Assert.Empty(log.Errors);
    }

    [Fact]
    public async Task A_body_that_is_shorter_than_its_length_is_cut()
    {
        using var log = new KeptLog();
        await using var world = await StartAsync(log);
        world.Answer(Port, "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello");
        Assert.DoesNotContain("\r\n\r\nhello\n", await SendAsync(world, "GET"), StringComparison.Ordinal);
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.BadAnswer) == 1);
        Assert.Equal(0, world.Api.Metrics.Count(PreviewResult.Ok));
        Assert.Empty(log.Errors);
    }

    [Fact]
    public async Task A_switch_of_protocols_passes_without_a_length()
    {
        using var log = new KeptLog();
        await using var world = await StartAsync(log);
        world.Answer(
            Port,
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nContent-Length: 5\r\n\r\nbytes");
        var got = await world.SendRawAsync(
            $"GET / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 101 ", got, StringComparison.Ordinal);
        Assert.DoesNotContain("Content-Length", got, StringComparison.Ordinal);
        Assert.EndsWith("\r\n\r\nbytes", got, StringComparison.Ordinal);
        await FakeNode.UntilAsync(() => world.Api.Metrics.Count(PreviewResult.Ok) == 1);
        Assert.Empty(log.Errors);
    }

    [Theory]
    [InlineData(200, true)]
    [InlineData(204, false)]
    [InlineData(304, false)]
    public async Task Of_an_answer_by_HTTP_2_no_length_passes_which_nobody_checks(int status, bool copiesBody)
    {
        var context = new DefaultHttpContext();
        using var answer = new HttpResponseMessage((System.Net.HttpStatusCode)status)
        {
            Version = System.Net.HttpVersion.Version20,
            Content = new ByteArrayContent([]),
        };
        answer.Content.Headers.ContentLength = 5;
        var transformer = new PreviewTransformer(new PreviewHost(Port, "a", IsOfDomain: false, ""), "/", cookie: null);
        Assert.Equal(copiesBody, await transformer.TransformResponseAsync(context, answer, CancellationToken.None));
        Assert.Null(context.Response.ContentLength);
    }

    private static async Task<PreviewWorld> StartAsync(KeptLog log) =>
        await PreviewWorld.OnAsync(await FakeServer.StartAsync(onLoopback: true, loggers: log));

    private static Task<string> SendAsync(PreviewWorld world, string method) => world.SendRawAsync(
        $"{method} / HTTP/1.1\r\nHost: {world.HostOf(Port)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
}
