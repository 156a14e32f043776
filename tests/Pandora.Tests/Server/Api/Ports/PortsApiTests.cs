using System.Net;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine.Sandboxes;
using Pandora.Fakes;
using Pandora.Server.Hosting;
using Pandora.Tests.Audit;

namespace Pandora.Tests.Api;

/// <summary>The routes of ports and SSH keys that answer with JSON, and the audit of all.</summary>
public sealed class PortsApiTests
{
    private const string Key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA me";

    [Fact]
    public void The_limits_of_the_contract_are_those_of_the_engine()
    {
        Assert.Equal(Limits.MaxPublicPorts, RequestLimits.MaxPublicPorts);
        Assert.Equal(Limits.MaxSshKeys, RequestLimits.MaxSshKeys);
        Assert.Equal(Limits.MaxSshKeyBytes, RequestLimits.MaxSshKeyBytes);
    }

    [Fact]
    public async Task Ports_are_listed_and_made_public()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync("""{"public_ports": [9000, 80]}""");
        api.Node.GuestOf(id).Ports[3000] = new IPEndPoint(IPAddress.Loopback, 1);
        var set = await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ports/3000", """{"public": true}""");
        Assert.Equal(
            (200, $$"""{"port":3000,"public":true,"preview_url":"http://3000-{{id}}.localhost:8000/"}"""),
            (set.Status, set.Body.GetRawText()));
        Assert.Equal(200, (await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ports/80", """{"public": false}""")).Status);
        var list = await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}/ports");
        string Preview(int port) => $"http://{port}-{id}.localhost:8000/";
        var listened = $$"""{"port":3000,"addresses":["127.0.0.1"],"public":true,"preview_url":"{{Preview(3000)}}",""";
        Assert.Equal(
            $$"""[{{listened}}"pid":3100,"program":"fake"},{"port":9000,"addresses":[],"public":true,"preview_url":"{{Preview(9000)}}"}]""",
            list.Body.GetRawText());
    }

    [Theory]
    [InlineData("http://127.0.0.1:80", "", "http://1-abc.localhost/")]
    [InlineData("http://0.0.0.0:9001/", "", "http://1-abc.localhost:9001/")]
    [InlineData("http://127.0.0.1:8000", "previews.example", "https://1-abc.previews.example/")]
    [InlineData("http://127.0.0.1:8000", "previews.example:8443", "https://1-abc.previews.example:8443/")]
    public async Task Preview_addresses_are_those_of_the_settings(string listen, string domain, string expected)
    {
        await using var api = await FakeServer.StartAsync(new ServerOptions { Listen = listen, PreviewDomain = domain });
        var id = await api.CreateAsync();
        var set = await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ports/1", """{"public": true}""");
        Assert.Equal(expected.Replace("abc", id, StringComparison.Ordinal), set.Body.GetProperty("preview_url").GetString());
    }

    [Theory]
    [InlineData("80", "{}", "public")]
    [InlineData("80", """{"public": null}""", "public")]
    [InlineData("80", """{"public": 1}""", "public")]
    [InlineData("80", """{"public": true, "more": 1}""", "more")]
    [InlineData("0", """{"public": true}""", "port")]
    [InlineData("65536", """{"public": true}""", "port")]
    [InlineData("-1", """{"public": true}""", "port")]
    [InlineData("http", """{"public": true}""", "port")]
    [InlineData("99999999999", """{"public": true}""", "port")]
    public async Task A_request_that_is_none_changes_nothing(string port, string body, string field)
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync();
        var answer = await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ports/{port}", body);
        Assert.Equal((400, "invalid_request"), (answer.Status, answer.Body.GetProperty("code").GetString()));
        Assert.Equal(field, Assert.Single(answer.Body.GetProperty("errors").EnumerateObject()).Name);
        Assert.Empty(api.Node.Sandboxes.Get(id).PublicPorts);
    }

    [Theory]
    [InlineData("""{"public_ports": [0]}""", "public_ports")]
    [InlineData("""{"public_ports": ["80"]}""", "public_ports[0]")]
    [InlineData("""{"ssh_keys": ["nonsense"]}""", "ssh_keys")]
    [InlineData("""{"ssh_keys": [null]}""", "ssh_keys")]
    public async Task A_sandbox_with_wrong_ports_or_keys_is_not_created(string body, string field)
    {
        await using var api = await FakeServer.StartAsync();
        var answer = await api.SendAsync(HttpMethod.Post, "/sandboxes", body);
        Assert.Equal(400, answer.Status);
        Assert.Equal(field, Assert.Single(answer.Body.GetProperty("errors").EnumerateObject()).Name);
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task Keys_are_set_at_creation_or_later()
    {
        await using var api = await FakeServer.StartAsync();
        var id = await api.CreateAsync(JsonSerializer.Serialize(new { ssh_keys = new[] { Key } }));
        var shown = await api.SendAsync(HttpMethod.Get, $"/sandboxes/{id}/ssh-keys");
        Assert.Equal([Key], shown.Body.GetProperty("keys").EnumerateArray().Select(k => k.GetString()));
        Assert.StartsWith("ssh-ed25519 ", shown.Body.GetProperty("host_key").GetString());
        var set = await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ssh-keys", """{"keys": []}""");
        Assert.Equal((200, 0), (set.Status, set.Body.GetProperty("keys").GetArrayLength()));
        foreach (var (body, field) in new[]
            { ("{}", "keys"), ("""{"keys": null}""", "keys"), ("""{"keys": [""]}""", "keys"), ("""{"keys": [], "user": "x"}""", "user") })
        {
            var answer = await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ssh-keys", body);
            Assert.Equal(400, answer.Status);
            Assert.Equal(field, Assert.Single(answer.Body.GetProperty("errors").EnumerateObject()).Name);
        }

        Assert.Equal(404, (await api.SendAsync(HttpMethod.Get, "/sandboxes/nope/ssh-keys")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Put, "/sandboxes/nope/ssh-keys", """{"keys": []}""")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Get, "/sandboxes/nope/ports")).Status);
        Assert.Equal(404, (await api.SendAsync(HttpMethod.Put, "/sandboxes/nope/ports/1", """{"public": true}""")).Status);
    }

    [Fact]
    public async Task The_audit_has_each_change_and_each_connection_at_its_end()
    {
        await using var audited = await AuditedServer.StartAsync();
        var api = audited.Server;
        var id = await api.CreateAsync();
        using var listener = new System.Net.Sockets.TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        api.Node.GuestOf(id).Ports[80] = (IPEndPoint)listener.LocalEndpoint;
        await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ports/80", """{"public": true}""");
        await api.SendAsync(HttpMethod.Put, $"/sandboxes/{id}/ssh-keys", """{"keys": []}""");
        var sandbox = api.Node.Sandboxes.Get(id);
        await using (var connection = await sandbox.ConnectPortAsync(80, Pandora.Engine.PortUse.Connect, default))
        {
            using var program = await listener.AcceptTcpClientAsync();
            await connection.WriteAsync(new byte[3]);
            await program.GetStream().WriteAsync(new byte[5]);
            await connection.ReadExactlyAsync(new byte[5]);
        }

        await (await sandbox.ConnectPortAsync(80, Pandora.Engine.PortUse.Preview, default)).DisposeAsync();
        await Assert.ThrowsAsync<Pandora.Engine.PandoraException>(
            () => sandbox.ConnectPortAsync(81, Pandora.Engine.PortUse.Connect, default));
        await Assert.ThrowsAsync<Pandora.Engine.PandoraException>(() => sandbox.OpenSshAsync(default));
        var lines = (await audited.StopAsync()).Where(l => l.GetProperty("operation").GetString() is not ("create" or "end")).ToList();
        Assert.Equal(
            ["port_public ok", "ssh_keys ok", "port_connect ok", "port_connect port_closed", "ssh ssh_unsupported"],
            lines.Select(l => $"{l.GetProperty("operation")} {l.GetProperty("outcome")}"));
        Assert.Equal((80, true), (lines[0].GetProperty("port").GetInt32(), lines[0].GetProperty("public").GetBoolean()));
        Assert.Equal(
            [80, 3, 5], new[] { "port", "input_bytes", "bytes" }.Select(n => lines[2].GetProperty(n).GetInt32()));
    }

    [Theory]
    [InlineData("none", "navigate", "document", "GET", 200)]
    [InlineData("same-origin", "cors", "empty", "GET", 200)]
    [InlineData("cross-site", "navigate", "document", "GET", 200)]
    [InlineData("same-site", "navigate", "document", "HEAD", 200)]
    [InlineData("cross-site", "navigate", "document", "POST", 403)]
    [InlineData("cross-site", "navigate", "iframe", "GET", 403)]
    [InlineData("same-site", "no-cors", "image", "GET", 403)]
    [InlineData("cross-site", "websocket", "websocket", "GET", 403)]
    [InlineData("cross-site", "", "", "GET", 403)]
    [InlineData("Cross-Site", "", "", "GET", 403)]
    public async Task A_page_of_another_site_reaches_nothing_although_its_browser_sends_no_origin(
        string site, string mode, string target, string method, int status)
    {
        await using var api = await FakeServer.StartAsync();
        var answer = await api.SendAsync(
            HttpMethod.Parse(method), "/sandboxes", method == "POST" ? "{}" : null,
            headers: [("Sec-Fetch-Site", site), ("Sec-Fetch-Mode", mode), ("Sec-Fetch-Dest", target)]);
        Assert.Equal(status, answer.Status);
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }
}
