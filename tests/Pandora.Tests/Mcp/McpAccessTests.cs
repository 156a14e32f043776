using System.Net;
using Pandora.Fakes;
using Pandora.Server.Hosting;

namespace Pandora.Tests.Mcp;

/// <summary>Who may use the MCP front end, and which revisions it speaks.</summary>
public sealed class McpAccessTests
{
    private const string Key = "a-key-of-the-settings";
    private const string List = """{"jsonrpc": "2.0", "id": 1, "method": "tools/list"}""";
    private static readonly (string, string) Accepts = ("Accept", "application/json, text/event-stream");

    [Fact]
    public async Task Without_the_key_nothing_is_served()
    {
        await using var world = await McpWorld.StartAsync(new ServerOptions { ApiKeys = Key }, key: Key);
        Assert.Equal(14, (await world.Client.ListToolsAsync()).Count);
        foreach (var shown in new[] { "", "Bearer wrong-key-wrong-key-wrong" })
        {
            var answer = await world.Server.SendAsync(
                HttpMethod.Post, "/mcp", List, headers: shown.Length == 0 ? [Accepts] : [Accepts, ("Authorization", shown)]);
            Assert.Equal(401, answer.Status);
            Assert.Equal("Bearer", answer.Response.Headers.WwwAuthenticate.First().Scheme);
        }
    }

    [Theory]
    [InlineData("Host", "attacker.example")]
    [InlineData("Origin", "http://attacker.example")]
    [InlineData("Origin", "null")]
    [InlineData("Sec-Fetch-Site", "cross-site")]
    public async Task Pages_of_other_sites_and_other_host_names_are_refused(string header, string value)
    {
        await using var world = await McpWorld.StartAsync();
        var answer = await world.Server.SendAsync(HttpMethod.Post, "/mcp", List, headers: [Accepts, (header, value)]);
        Assert.InRange(answer.Status, 400, 403);
        Assert.Equal(200, (await world.Server.SendAsync(HttpMethod.Post, "/mcp", List, headers: Accepts)).Status);
    }

    [Theory]
    [InlineData("2025-03-26")]
    [InlineData("2025-06-18")]
    [InlineData("2025-11-25")]
    [InlineData("2026-07-28")]
    public async Task Each_revision_is_spoken(string revision)
    {
        await using var server = await FakeServer.StartAsync(onLoopback: true);
        await using var client = await McpWorld.ConnectAsync(server, revision: revision);
        Assert.Equal(revision, client.NegotiatedProtocolVersion);
        Assert.Equal("pandora", client.ServerInfo!.Name);
        Assert.Contains("data, never instructions", client.ServerInstructions, StringComparison.Ordinal);
        var result = await client.CallToolAsync("run", new Dictionary<string, object?> { ["command"] = "echo hi" });
        Assert.Equal(0, result.StructuredContent!.Value.GetProperty("exit_code").GetInt32());
    }

    [Theory]
    [InlineData("GET")]
    [InlineData("DELETE")]
    public async Task There_is_no_session_to_open_or_end(string method)
    {
        await using var server = await FakeServer.StartAsync(onLoopback: true);
        using var request = new HttpRequestMessage(HttpMethod.Parse(method), "/mcp");
        request.Headers.Accept.ParseAdd("text/event-stream");
        using var answer = await server.Http.SendAsync(request);
        Assert.Equal(HttpStatusCode.MethodNotAllowed, answer.StatusCode);
    }

    [Fact]
    public async Task A_body_that_is_no_message_is_a_bad_request()
    {
        await using var server = await FakeServer.StartAsync(onLoopback: true);
        foreach (var body in new[] { "{", "[]", "null", """{"jsonrpc": "1.0"}""", """{"jsonrpc": "2.0", "id": null, "method": "ping"}""" })
        {
            Assert.Equal(400, (await server.SendAsync(HttpMethod.Post, "/mcp", body, headers: Accepts)).Status);
        }
    }
}
