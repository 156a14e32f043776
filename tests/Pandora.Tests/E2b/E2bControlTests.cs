using System.Text.Json;
using Pandora.Engine;
using Pandora.Fakes;

namespace Pandora.Tests.E2b;

/// <summary>The control API of the E2B front end: what it makes and shows, and how it refuses.</summary>
public sealed class E2bControlTests
{
    [Theory]
    [InlineData("/e2b/sandboxes", 15)]
    [InlineData("/e2b/v2/sandboxes", 300)]
    public async Task A_sandbox_ends_after_the_time_that_the_clients_generation_expects(string path, int seconds)
    {
        await using var api = await FakeServer.StartAsync();
        var created = await api.SendAsync(HttpMethod.Post, path, """{"templateID": "base", "metadata": {"a": "b"}}""");
        Assert.Equal(201, created.Status);
        Assert.Equal(
            ("default", "base", "localhost:8000", JsonValueKind.Undefined),
            (Text(created.Body, "templateID"), Text(created.Body, "alias"), Text(created.Body, "domain"),
                created.Body.TryGetProperty("trafficAccessToken", out var token) ? token.ValueKind : default));
        var id = Text(created.Body, "sandboxID");
        var shown = (await api.SendAsync(HttpMethod.Get, $"/e2b/sandboxes/{id}")).Body;
        Assert.Equal(("running", "b"), (Text(shown, "state"), Text(shown.GetProperty("metadata"), "a")));
        var life = shown.GetProperty("endAt").GetDateTimeOffset() - shown.GetProperty("startedAt").GetDateTimeOffset();
        Assert.Equal(seconds, life.TotalSeconds);
        api.Node.Time.Advance(TimeSpan.FromSeconds(seconds));
        await FakeNode.UntilAsync(() => api.Node.Sandboxes.Count == 0);
        var gone = await api.SendAsync(HttpMethod.Get, $"/e2b/sandboxes/{id}");
        Assert.Equal((404, 404), (gone.Status, gone.Body.GetProperty("code").GetInt32()));
        Assert.Contains("its time was over", Text(gone.Body, "message"), StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("""{"templateID": "base", "autoPause": true}""", "autoPause")]
    [InlineData("""{"templateID": "base", "autoResume": {"enabled": true}}""", "autoPause")]
    [InlineData("""{"templateID": "base", "secure": false}""", "secure")]
    [InlineData("""{"templateID": "base", "iam": {"tokens": {}}}""", "iam")]
    [InlineData("""{"templateID": "base", "volumeMounts": [{"name": "v", "path": "/v"}]}""", "volumeMounts")]
    [InlineData("""{"templateID": "base", "network": {"allowOut": ["example.com"]}}""", "network.allowOut")]
    [InlineData("""{"templateID": "base", "network": {"allowOut": [null]}}""", "network.allowOut")]
    [InlineData("""{"templateID": "base", "network": {"denyOut": ["1.2.3.4/33"]}}""", "network.denyOut")]
    [InlineData("""{"templateID": "base", "network": {"rules": {"a.example": []}}}""", "network.rules")]
    [InlineData("""{"templateID": "base", "network": {"egressProxy": {"address": "a"}}}""", "network.egressProxy")]
    [InlineData("""{"templateID": "base", "network": {"maskRequestHost": "a\r\nb"}}""", "network.maskRequestHost")]
    [InlineData("""{"templateID": "base", "envVars": {"1A": "x"}}""", "envVars")]
    [InlineData("""{"templateID": "base", "envVars": {"A": null}}""", "envVars")]
    [InlineData("""{"templateID": "base", "metadata": {"A": null}}""", "metadata")]
    [InlineData("""{"templateID": "base", "unknown": 1}""", "unknown")]
    [InlineData("""{"templateID": "base", "timeout": 86401}""", "timeout")]
    [InlineData("""{"templateID": "base", "timeout": -1}""", "timeout")]
    [InlineData("""{"templateID": "base", "timeout": "x"}""", "timeout")]
    [InlineData("""{"templateID": "base:old"}""", "templateID")]
    [InlineData("""{"templateID": "none"}""", "template")]
    [InlineData("""{}""", "templateID")]
    [InlineData("""[]""", "body")]
    [InlineData("", "body")]
    public async Task What_is_not_there_is_refused_and_nothing_is_made(string body, string field)
    {
        await using var api = await FakeServer.StartAsync();
        var refused = await api.SendAsync(HttpMethod.Post, "/e2b/v2/sandboxes", body);
        Assert.Equal((400, 400), (refused.Status, refused.Body.GetProperty("code").GetInt32()));
        Assert.StartsWith($"{field}: ", Text(refused.Body, "message"), StringComparison.Ordinal);
        Assert.Equal(["code", "message"], refused.Body.EnumerateObject().Select(p => p.Name));
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Theory]
    [InlineData("20", 201)]
    [InlineData("9", 400)]
    [InlineData("x", 400)]
    public async Task A_header_sets_an_idle_timeout_besides_the_end(string header, int status)
    {
        await using var api = await FakeServer.StartAsync();
        var created = await api.SendAsync(
            HttpMethod.Post, "/e2b/v2/sandboxes", """{"templateID": "base"}""", headers: [("X-Pandora-Idle-Timeout", header)]);
        Assert.Equal(status, created.Status);
        Assert.Equal(status == 201 ? 1 : 0, api.Node.Sandboxes.Count);
        api.Node.Time.Advance(TimeSpan.FromSeconds(20));
        await api.Node.Sandboxes.ReapAsync();
        Assert.Equal(0, api.Node.Sandboxes.Count);
    }

    [Fact]
    public async Task What_older_clients_always_send_is_accepted()
    {
        await using var api = await FakeServer.StartAsync(options: new EngineOptions { Egress = Egress.None });
        var created = await api.SendAsync(HttpMethod.Post, "/e2b/sandboxes", """
            {"templateID": "base:latest", "timeout": 86400, "secure": true, "allow_internet_access": true, "autoPause": false,
             "autoResume": {"enabled": false}, "envVars": {}, "network": {"allowOut": [], "denyOut": [], "rules": {}}, "mcp": null}
            """);
        Assert.Equal(201, created.Status);
        Assert.Equal(Egress.None, api.Node.Sandboxes.List().Single().Egress.Default);
    }

    [Fact]
    public async Task Ranges_become_the_sandboxs_egress_and_can_be_changed()
    {
        await using var world = await E2bWorld.StartAsync("""
            {"templateID": "base",
             "network": {"allowOut": ["1.1.1.1", "10.0.0.0/8"], "denyOut": ["0.0.0.0/0", "8.8.8.8/32"], "allowPublicTraffic": false}}
            """);
        var policy = world.Api.Node.Sandboxes.List().Single().Egress;
        Assert.Equal(Egress.None, policy.Default);
        Assert.Equal(["1.1.1.1/32", "10.0.0.0/8"], policy.Allow.Select(r => $"{r}"));
        Assert.Equal(["8.8.8.8/32"], policy.Deny.Select(r => $"{r}"));
        var shown = (await world.Api.SendAsync(HttpMethod.Get, $"/e2b/sandboxes/{world.Id}")).Body;
        Assert.False(shown.GetProperty("network").GetProperty("allowPublicTraffic").GetBoolean());
        var changed = await world.Api.SendAsync(HttpMethod.Put, $"/e2b/sandboxes/{world.Id}/network", """{"denyOut": ["9.9.9.9"]}""");
        Assert.Equal(204, changed.Status);
        policy = world.Api.Node.Sandboxes.List().Single().Egress;
        Assert.Equal((Egress.Internet, 0, "9.9.9.9/32"), (policy.Default, policy.Allow.Count, $"{policy.Deny.Single()}"));
        Assert.Equal(204, (await world.Api.SendAsync(HttpMethod.Put, $"/e2b/sandboxes/{world.Id}/network", "{}")).Status);
        Assert.Equal(new EgressPolicy(Egress.Internet), world.Api.Node.Sandboxes.List().Single().Egress);
        var refused = await world.Api.SendAsync(
            HttpMethod.Put, $"/e2b/sandboxes/{world.Id}/network", """{"allowPublicTraffic": true}""");
        Assert.Equal(400, refused.Status);
    }

    [Fact]
    public async Task Connect_only_extends_and_timeout_also_shortens()
    {
        await using var world = await E2bWorld.StartAsync();
        var (api, path) = (world.Api, $"/e2b/sandboxes/{world.Id}");
        async Task<DateTimeOffset> EndAsync() => (await api.SendAsync(HttpMethod.Get, path)).Body.GetProperty("endAt").GetDateTimeOffset();
        var first = await EndAsync();
        var connected = await api.SendAsync(HttpMethod.Post, $"/e2b/v2/sandboxes/{world.Id}/connect", """{"timeout": 5}""");
        Assert.Equal((200, world.Token), (connected.Status, Text(connected.Body, "envdAccessToken")));
        Assert.Equal(first, await EndAsync());
        Assert.Equal(200, (await api.SendAsync(HttpMethod.Post, $"{path}/connect", """{"timeout": 600}""")).Status);
        Assert.Equal(first + TimeSpan.FromSeconds(300), await EndAsync());
        Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/timeout", """{"timeout": 60}""")).Status);
        Assert.Equal(first - TimeSpan.FromSeconds(240), await EndAsync());
        Assert.Equal(204, (await api.SendAsync(HttpMethod.Post, $"{path}/refreshes", """{"duration": 120}""")).Status);
        Assert.Equal(first - TimeSpan.FromSeconds(180), await EndAsync());
        Assert.Equal(400, (await api.SendAsync(HttpMethod.Post, $"{path}/refreshes", """{"duration": 3601}""")).Status);
        Assert.Equal(400, (await api.SendAsync(HttpMethod.Post, $"{path}/timeout", "{}")).Status);
    }

    [Theory]
    [InlineData("POST", "/e2b/sandboxes/ID/pause", 501)]
    [InlineData("POST", "/e2b/sandboxes/ID/fork", 501)]
    [InlineData("POST", "/e2b/sandboxes/none/pause", 404)]
    [InlineData("GET", "/e2b/snapshots", 501)]
    [InlineData("POST", "/e2b/v3/templates", 501)]
    [InlineData("PATCH", "/e2b/v2/templates/base", 501)]
    [InlineData("GET", "/e2b/volumes", 501)]
    [InlineData("GET", "/e2b/templates/aliases/none", 404)]
    [InlineData("GET", "/e2b/nothing", 404)]
    [InlineData("DELETE", "/e2b/v2/sandboxes", 405)]
    [InlineData("DELETE", "/e2b/sandboxes/none", 404)]
    public async Task Every_refusal_has_E2Bs_shape(string method, string path, int status)
    {
        await using var world = await E2bWorld.StartAsync();
        var refused = await world.Api.SendAsync(HttpMethod.Parse(method), path.Replace("ID", world.Id, StringComparison.Ordinal), "{}");
        Assert.Equal((status, status), (refused.Status, refused.Body.GetProperty("code").GetInt32()));
        Assert.NotEmpty(Text(refused.Body, "message"));
    }

    [Fact]
    public async Task A_list_comes_in_pages_that_stay_in_order()
    {
        await using var api = await FakeServer.StartAsync(options: new EngineOptions { PoolSize = 5 });
        List<string> ids = [];
        for (var i = 0; i < 5; i++)
        {
            var created = await api.SendAsync(
                HttpMethod.Post, "/e2b/v2/sandboxes", $$$"""{"templateID": "base", "metadata": {"a b": "c&d", "n": "{{{i % 2}}}"}}""");
            ids.Add(Text(created.Body, "sandboxID"));
            api.Node.Time.Advance(TimeSpan.FromMilliseconds(1));
        }

        Assert.Equal(ids.AsEnumerable().Reverse(), await PagesAsync(api, "limit=2"));
        Assert.Equal(ids, await PagesAsync(api, "limit=2&order=asc"));
        Assert.Equal([ids[3], ids[1]], await PagesAsync(api, "metadata=n%3D1"));
        // As the SDKs write it: each name and value is encoded three times.
        Assert.Equal(5, (await PagesAsync(api, "metadata=a%252520b%3Dc%252526d&limit=3")).Count);
        Assert.Empty(await PagesAsync(api, "state=paused"));
        Assert.Equal(5, (await PagesAsync(api, "state=running,paused&template=base")).Count);
        foreach (var (bad, field) in new[]
        {
            ("limit=0", "limit"), ("limit=101", "limit"), ("state=x", "state"), ("order=x", "order"), ("nextToken=%21", "nextToken"),
            ("startedAfter=x", "startedAfter"),
        })
        {
            var refused = await api.SendAsync(HttpMethod.Get, $"/e2b/v2/sandboxes?{bad}");
            Assert.Equal(400, refused.Status);
            Assert.StartsWith($"{field}: ", Text(refused.Body, "message"), StringComparison.Ordinal);
        }
    }

    private static async Task<List<string>> PagesAsync(FakeServer api, string query)
    {
        List<string> ids = [];
        for (string? token = ""; token is not null;)
        {
            var page = await api.SendAsync(HttpMethod.Get, $"/e2b/v2/sandboxes?{query}&nextToken={token}");
            Assert.Equal(200, page.Status);
            ids.AddRange(page.Body.EnumerateArray().Select(s => Text(s, "sandboxID")));
            token = page.Response.Headers.TryGetValues("X-Next-Token", out var next) ? next.Single() : null;
        }

        return ids;
    }

    private static string Text(JsonElement body, string name) => body.GetProperty(name).GetString()!;
}
