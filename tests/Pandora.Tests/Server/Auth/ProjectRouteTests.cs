using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine.Projects;
using Pandora.Fakes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Tests.Api;
using Pandora.Tests.Mcp;

namespace Pandora.Tests.Auth;

/// <summary>What the keys of one project can do to another's sandboxes, by every route: nothing.</summary>
public sealed class ProjectRouteTests
{
    private const string Admin = "an-admin-key-of-the-settings";

    [Fact]
    public async Task Every_route_to_a_sandbox_refuses_the_key_of_another_project()
    {
        await using var world = await World.StartAsync();
        var id = await world.CreateAsync(world.A);
        await using var events = await ServerEvents.OpenAsync(
            world.Api.Http, HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "run"}""", ("X-API-Key", world.A));
        var process = (await events.NextAsync("started")).GetProperty("process_id").GetString()!;
        var routes = world.Api.Routes.Where(r => r.Path.Contains("{id}", StringComparison.Ordinal)).ToList();
        Assert.True(routes.Count >= 26, $"{routes.Count} routes");
        foreach (var (method, path) in routes)
        {
            var address = path.Replace("{id}", id, StringComparison.Ordinal).Replace("{processId}", process, StringComparison.Ordinal)
                .Replace("{port}", "80", StringComparison.Ordinal);
            Assert.DoesNotContain("{", address, StringComparison.Ordinal);
            var body = method == HttpMethod.Post || method == HttpMethod.Put ? BodyOf(path) : null;
            var answer = await world.Api.SendAsync(method, address, body, headers: [("X-API-Key", world.B), .. SocketOf(path)]);
            Assert.True(answer.Status == 404, $"{method} {address}: {answer.Status} {answer.Body}");
            var isE2b = path.StartsWith("/e2b/", StringComparison.Ordinal);
            Assert.Equal(isE2b ? "404" : $"\"{ErrorCodes.SandboxNotFound.Code}\"", answer.Body.GetProperty("code").GetRawText());
            // The answer is the one for a sandbox that does not exist.
            Assert.Equal($"there is no sandbox '{id}'", answer.Body.GetProperty(isE2b ? "message" : "detail").GetString());
        }

        Assert.False(world.Api.Node.Booted.Single(b => b.Id == id).Guest.Runs.Single().IsKilled);
        Assert.Equal(200, (await world.SendAsync(HttpMethod.Get, $"/sandboxes/{id}", world.A)).Status);
        Assert.Equal(200, (await world.SendAsync(HttpMethod.Get, $"/sandboxes/{id}", Admin)).Status);
    }

    // The control API of the E2B front end, besides the routes of one sandbox.
    private static string[] E2bRoutes =>
    [
        "POST /e2b/sandboxes", "POST /e2b/v2/sandboxes", "GET /e2b/sandboxes", "GET /e2b/v2/sandboxes", "GET /e2b/sandboxes/metrics",
        "GET /e2b/health", "GET /e2b/templates", "GET /e2b/v2/templates", "GET /e2b/templates/aliases/{name}", "GET /e2b/snapshots",
        .. from path in new[] { "/e2b/templates", "/e2b/v2/templates", "/e2b/v3/templates" }
           from route in new[] { "", "/{**rest}" }
           from method in route.Length == 0 ? ["POST"] : new[] { "POST", "PATCH", "DELETE", "PUT" }
           select $"{method} {path}{route}",
        .. from what in new[] { "volumes", "secrets" }
           from method in new[] { "GET", "POST", "DELETE" }
           select $"{method} /e2b/{what}/{{**rest}}",
    ];

    [Fact]
    public async Task Every_other_route_is_known_to_this_test()
    {
        await using var world = await World.StartAsync();
        string[] known =
        [
            "POST /sandboxes", "GET /sandboxes", "GET /health", "GET /ready", "GET /metrics", "GET /openapi/{documentName}.json",
            // They show no sandbox, or only those that the key may see: E2bListTests.
            .. E2bRoutes,
            // Its tools see what the key may see: see below.
            "POST /mcp",
            "GET /docs", "GET /docs/{documentName?}", "GET /docs/scalar.js", "GET /docs/scalar.aspnetcore.js", "GET /docs/favicon.svg",
        ];
        Assert.Empty(world.Api.Routes.Select(r => $"{r.Method} {r.Path}")
            .Where(r => !r.Contains("/sandboxes/{id}", StringComparison.Ordinal)).Except(known));
    }

    [Fact]
    public async Task A_list_shows_a_projects_own_sandboxes_and_an_admin_all()
    {
        await using var world = await World.StartAsync();
        var (a, b) = (await world.CreateAsync(world.A), await world.CreateAsync(world.B));
        Assert.Equal([a], await world.ListAsync(world.A));
        Assert.Equal([b], await world.ListAsync(world.B));
        Assert.Equal(new[] { a, b }.Order(StringComparer.Ordinal), (await world.ListAsync(Admin)).Order(StringComparer.Ordinal));
        // Ended ones are as secret.
        await world.SendAsync(HttpMethod.Delete, $"/sandboxes/{a}", world.A);
        Assert.Contains("has ended", Detail(await world.SendAsync(HttpMethod.Get, $"/sandboxes/{a}", world.A)), StringComparison.Ordinal);
        Assert.Equal($"there is no sandbox '{a}'", Detail(await world.SendAsync(HttpMethod.Get, $"/sandboxes/{a}", world.B)));
    }

    [Fact]
    public async Task The_tools_of_MCP_see_a_projects_own_sandboxes()
    {
        await using var world = await World.StartAsync();
        await using var own = await McpWorld.ConnectAsync(world.Api, world.A);
        await using var other = await McpWorld.ConnectAsync(world.Api, world.B);
        var started = (await own.CallToolAsync("process_start", Arguments(("command", "run")))).StructuredContent!.Value;
        var (id, process) = (started.GetProperty("sandbox").GetString()!, started.GetProperty("process").GetString()!);
        var listed = (await other.CallToolAsync("sandbox_list")).StructuredContent!.Value;
        Assert.Equal(0, listed.GetProperty("total").GetInt32());
        foreach (var (tool, arguments) in new[]
        {
            ("run", Arguments(("command", "x"), ("sandbox", id))),
            ("process_start", Arguments(("command", "x"), ("sandbox", id))),
            ("process_read", Arguments(("process", process))),
            ("process_input", Arguments(("process", process), ("end", true))),
            ("process_signal", Arguments(("process", process))),
            ("file_read", Arguments(("path", "x"), ("sandbox", id))),
            ("file_write", Arguments(("path", "x"), ("text", ""), ("sandbox", id))),
            ("file_edit", Arguments(("path", "x"), ("old_text", "a"), ("new_text", "b"), ("sandbox", id))),
            ("file_list", Arguments(("sandbox", id))),
            ("file_search", Arguments(("pattern", "x"), ("sandbox", id))),
            ("port_link", Arguments(("port", 80), ("sandbox", id))),
            ("sandbox_end", Arguments(("sandbox", id))),
        })
        {
            var answer = await other.CallToolAsync(tool, arguments);
            Assert.StartsWith($"sandbox_not_found: there is no sandbox '{id}'. ", McpWorld.TextOf(answer), StringComparison.Ordinal);
        }

        Assert.Equal([id], await world.ListAsync(world.A));
        Assert.Empty(await world.ListAsync(world.B));

        static Dictionary<string, object?> Arguments(params (string Name, object Value)[] given) =>
            given.ToDictionary(a => a.Name, a => (object?)a.Value);
    }

    [Fact]
    public async Task An_idempotency_key_belongs_to_its_project()
    {
        await using var world = await World.StartAsync();
        var ids = new List<string>();
        foreach (var key in new[] { world.A, world.B, world.A })
        {
            var answer = await world.Api.SendAsync(
                HttpMethod.Post, "/sandboxes", "{}", headers: [("X-API-Key", key), ("Idempotency-Key", "same")]);
            Assert.Equal(201, answer.Status);
            ids.Add(answer.Body.GetProperty("sandbox_id").GetString()!);
        }

        Assert.Equal(ids[0], ids[2]);
        Assert.NotEqual(ids[0], ids[1]);
    }

    [Theory]
    [InlineData(KeyRole.User, "/metrics", 403)]
    [InlineData(KeyRole.User, "/sandboxes", 200)]
    [InlineData(KeyRole.User, "/health", 200)]
    [InlineData(KeyRole.Metrics, "/metrics", 200)]
    [InlineData(KeyRole.Metrics, "/METRICS", 200)]
    [InlineData(KeyRole.Metrics, "/sandboxes", 403)]
    [InlineData(KeyRole.Metrics, "/health", 403)]
    [InlineData(KeyRole.Metrics, "/openapi/v1.json", 403)]
    [InlineData(KeyRole.Metrics, "/ready", 200)]
    [InlineData(KeyRole.Admin, "/metrics", 200)]
    [InlineData(KeyRole.Admin, "/sandboxes", 200)]
    public async Task A_role_opens_what_it_includes(object role, string path, int status)
    {
        await using var world = await World.StartAsync();
        var answer = await world.SendAsync(HttpMethod.Get, path, await world.AddKeyAsync("a", (KeyRole)role));
        Assert.Equal(status, answer.Status);
        if (status == 403)
        {
            Assert.Equal("forbidden", answer.Body.GetProperty("code").GetString());
        }
    }

    [Fact]
    public async Task Health_tells_a_user_nothing_of_other_projects()
    {
        await using var world = await World.StartAsync();
        await world.CreateAsync(world.A);
        var mine = (await world.SendAsync(HttpMethod.Get, "/health", world.B)).Body;
        Assert.Equal(0, mine.GetProperty("active_sandboxes").GetInt32());
        Assert.False(mine.TryGetProperty("capacity", out _));
        var all = (await world.SendAsync(HttpMethod.Get, "/health", Admin)).Body;
        Assert.Equal(1, all.GetProperty("active_sandboxes").GetInt32());
        Assert.True(all.TryGetProperty("capacity", out _));
    }

    [Fact]
    public async Task A_revoked_key_ends_its_streams_and_no_other()
    {
        await using var world = await World.StartAsync();
        var (a, b) = (await world.CreateAsync(world.A), await world.CreateAsync(world.B));
        await using var mine = await world.StreamAsync(a, world.A);
        await using var other = await world.StreamAsync(b, world.B);
        await mine.NextAsync("started");
        await other.NextAsync("started");
        var raw = await world.Api.SendAsync(
            HttpMethod.Post, $"/sandboxes/{a}/processes", """{"code": "run"}""", headers: ("X-API-Key", world.A));
        using var request = new HttpRequestMessage(
            HttpMethod.Get, $"/sandboxes/{a}/processes/{raw.Body.GetProperty("process_id").GetString()}/output");
        request.Headers.Add("Accept", "application/octet-stream");
        request.Headers.Add("X-API-Key", world.A);
        using var output = await world.Api.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        await world.RevokeAsync("a");
        world.Api.Node.Time.Advance(Access.Interval);
        await Assert.ThrowsAnyAsync<Exception>(async () => await mine.NextAsync());
        await Assert.ThrowsAnyAsync<Exception>(() => output.Content.ReadAsByteArrayAsync());
        world.Api.Node.Booted.Single(m => m.Id == b).Guest.Runs.Single().Write("still here");
        Assert.Equal("still here", (await other.NextAsync("stdout")).GetProperty("data").GetString());
        Assert.Equal(401, (await world.SendAsync(HttpMethod.Get, "/sandboxes", world.A)).Status);
        // The sandbox lives on, for the project's other keys.
        Assert.Equal([a], await world.ListAsync(await world.AddKeyAsync("a", KeyRole.User)));
    }

    [Fact]
    public async Task A_revoked_key_ends_its_connections_to_ports()
    {
        await using var world = await World.StartAsync();
        var id = await world.CreateAsync(world.A);
        using var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start();
        world.Api.Node.GuestOf(id).Ports[80] = (IPEndPoint)listener.LocalEndpoint;
        using var socket = new ClientWebSocket();
        socket.Options.SetRequestHeader("X-API-Key", world.A);
        var address = new UriBuilder(new Uri(world.Api.Http.BaseAddress!, $"/sandboxes/{id}/ports/80/connect")) { Scheme = "ws" };
        await socket.ConnectAsync(address.Uri, default);
        var sandbox = world.Api.Node.Sandboxes.Get(id);
        Assert.Equal(1, sandbox.Connections);
        await world.RevokeAsync("a");
        world.Api.Node.Time.Advance(Access.Interval);
        await Assert.ThrowsAsync<WebSocketException>(() => socket.ReceiveAsync(new byte[1].AsMemory(), default).AsTask());
        await FakeNode.UntilAsync(() => sandbox.Connections == 0);
    }

    [Fact]
    public async Task The_first_key_ends_the_streams_that_began_without_one()
    {
        await using var world = new World(await FakeServer.StartAsync(new ServerOptions(), onLoopback: true));
        var id = (await world.Api.SendAsync(HttpMethod.Post, "/sandboxes", "{}")).Body.GetProperty("sandbox_id").GetString()!;
        await using var stream = await ServerEvents.OpenAsync(
            world.Api.Http, HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "run"}""");
        await stream.NextAsync("started");
        var key = await world.AddKeyAsync(Project.DefaultName, KeyRole.User);
        world.Api.Node.Time.Advance(Access.Interval);
        await Assert.ThrowsAnyAsync<Exception>(async () => await stream.NextAsync());
        Assert.Equal([id], await world.ListAsync(key));
        // A balancer asks without a key, as before.
        Assert.Equal(200, (await world.Api.SendAsync(HttpMethod.Get, "/ready")).Status);
    }

    [Fact]
    public async Task Guessing_is_bounded_and_counted()
    {
        await using var world = await World.StartAsync();
        Assert.Equal(200, (await world.SendAsync(HttpMethod.Get, "/sandboxes", world.A)).Status);
        var statuses = new List<int>();
        for (var i = 0; i < GuessBound.Burst + 5; i++)
        {
            statuses.Add((await world.SendAsync(HttpMethod.Get, "/sandboxes", Key.Create(isE2b: false))).Status);
        }

        Assert.Equal([.. Enumerable.Repeat(401, GuessBound.Burst), .. Enumerable.Repeat(429, 5)], statuses);
        var refused = await world.SendAsync(HttpMethod.Get, "/sandboxes", Key.Create(isE2b: false));
        Assert.Equal((429, "too_many_attempts"), (refused.Status, refused.Body.GetProperty("code").GetString()));
        Assert.NotNull(refused.Response.Headers.RetryAfter);
        // From loopback, as from a proxy, right keys work all the same.
        Assert.Equal(200, (await world.SendAsync(HttpMethod.Get, "/sandboxes", world.A)).Status);
        Assert.Equal(200, (await world.SendAsync(HttpMethod.Get, "/sandboxes", world.B)).Status);
        Assert.Equal(6, world.Api.Metrics.RefusedGuesses);
    }

    private static string? BodyOf(string path) => path.Split('/')[^1] switch
    {
        "exec" or "processes" => """{"code": "true"}""",
        "signal" => """{"signal": "TERM"}""",
        "egress" => """{"egress": "none"}""",
        "resize" => """{"columns": 80, "rows": 24}""",
        "mkdir" => """{"path": "/tmp/made"}""",
        "move" or "copy" => """{"from": "/tmp/a", "to": "/tmp/b"}""",
        "{port}" => """{"public": true}""",
        "links" => "{}",
        "ssh-keys" => """{"keys": []}""",
        _ => null,
    };

    private static (string, string)[] SocketOf(string path) => path.Split('/')[^1] is "attach" or "connect" or "ssh"
        ? [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA=="), ("Sec-WebSocket-Protocol", ProcessEvents.WebSocketProtocol)]
        : [];

    private static string Detail((int Status, JsonElement Body, HttpResponseMessage Response) answer) =>
        answer.Body.GetProperty("detail").GetString()!;

    /// <summary>A server with an admin's key and two projects with a key each.</summary>
    private sealed class World(FakeServer api) : IAsyncDisposable
    {
        public FakeServer Api => api;

        public string A { get; private set; } = "";

        public string B { get; private set; } = "";

        private AccessStore Store => new(api.Node.Options.DataDir);

        public static async Task<World> StartAsync()
        {
            var world = new World(await FakeServer.StartAsync(new ServerOptions { ApiKeys = Admin }, onLoopback: true));
            await world.ChangeAsync(f => f with { Projects = [new Project("a"), new Project("b")] });
            world.A = await world.AddKeyAsync("a", KeyRole.User);
            world.B = await world.AddKeyAsync("b", KeyRole.User);
            return world;
        }

        public async Task<string> AddKeyAsync(string project, KeyRole role)
        {
            var key = Key.Create(isE2b: false);
            var hash = Convert.ToHexStringLower(Key.HashOf(key));
            var entry = new KeyEntry(hash[..8], hash[..8], project, role, hash, DateTimeOffset.UnixEpoch);
            await ChangeAsync(f => f with { NeedsKey = true, Keys = [.. f.Keys, entry] });
            return key;
        }

        public Task RevokeAsync(string project) => ChangeAsync(f => f with { Keys = [.. f.Keys.Where(k => k.Project != project)] });

        public Task<(int Status, JsonElement Body, HttpResponseMessage Response)> SendAsync(HttpMethod method, string path, string key) =>
            api.SendAsync(method, path, headers: ("X-API-Key", key));

        public async Task<string> CreateAsync(string key)
        {
            var answer = await api.SendAsync(HttpMethod.Post, "/sandboxes", "{}", headers: ("X-API-Key", key));
            return answer.Body.GetProperty("sandbox_id").GetString()!;
        }

        public async Task<IReadOnlyList<string>> ListAsync(string key) =>
            [.. (await SendAsync(HttpMethod.Get, "/sandboxes", key)).Body.EnumerateArray()
                .Select(s => s.GetProperty("sandbox_id").GetString()!)];

        public Task<ServerEvents> StreamAsync(string id, string key) => ServerEvents.OpenAsync(
            api.Http, HttpMethod.Post, $"/sandboxes/{id}/exec", """{"code": "run"}""", ("X-API-Key", key));

        public ValueTask DisposeAsync() => api.DisposeAsync();

        private Task ChangeAsync(Func<AccessFile, AccessFile> change) =>
            Store.ChangeAsync(change, TimeProvider.System, CancellationToken.None);
    }
}
