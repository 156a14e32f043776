using System.Net;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Pandora.Fakes;

namespace Pandora.Tests.Gateway;

/// <summary>The versions of HTTP with which a preview speaks to a program. The web server in memory accepts HTTP/2.</summary>
public sealed class PreviewGrpcTests
{
    [Fact]
    public async Task GRPC_goes_to_the_guest_by_HTTP_2_and_its_trailers_arrive()
    {
        var api = await FakeServer.StartAsync();
        await using var world = await PreviewWorld.OnAsync(api);
        await world.ServeAsync(
            50051,
            app => app.Run(async context =>
            {
                context.Response.ContentType = "application/grpc";
                await context.Response.WriteAsync(context.Request.Protocol);
                context.Response.AppendTrailer("grpc-status", "0");
            }),
            HttpProtocols.Http2);
        using var answer = await SendAsync(api, world.HostOf(50051), "application/grpc+proto");
        Assert.Equal("HTTP/2", await answer.Content.ReadAsStringAsync());
        Assert.Equal("0", answer.TrailingHeaders.GetValues("grpc-status").Single());
    }

    [Theory]
    [InlineData("application/json", 2)]
    [InlineData("application/grpc", 1)]
    public async Task Everything_else_goes_by_HTTP_1(string type, int version)
    {
        var api = await FakeServer.StartAsync();
        await using var world = await PreviewWorld.OnAsync(api);
        await world.ServeAsync(3000, app => app.Run(c => c.Response.WriteAsync(c.Request.Protocol)));
        using var answer = await SendAsync(api, world.HostOf(3000), type, version);
        Assert.Equal("HTTP/1.1", await answer.Content.ReadAsStringAsync());
    }

    private static async Task<HttpResponseMessage> SendAsync(FakeServer api, string host, string type, int version = 2)
    {
        using var request = new HttpRequestMessage(HttpMethod.Post, "/service/Method")
        {
            Version = new Version(version, version == 1 ? 1 : 0),
            VersionPolicy = HttpVersionPolicy.RequestVersionExact,
            Content = new ByteArrayContent([1, 2, 3]),
        };
        request.Headers.Host = host;
        request.Content.Headers.TryAddWithoutValidation("Content-Type", type);
        var answer = await api.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.OK, answer.StatusCode);
        return answer;
    }
}
