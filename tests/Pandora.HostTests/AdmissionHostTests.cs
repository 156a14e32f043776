using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using Pandora.Client;
using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Keys, projects and the host's budget on a real server with real microVMs.</summary>
public sealed class AdmissionHostTests : IAsyncLifetime
{
    private const string Server = "artifacts/bin/Pandora.Server/release/pandora-server";
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task A_project_that_claims_the_whole_host_does_not_take_the_servers_memory()
    {
        // Room for four microVMs of 512 MiB each, with what QEMU may need.
        var reserve = HostMemoryMib() - (4 * 512) - 64;
        await using var server = await ServerProcess.StartAsync(_world, new()
        {
            ["PANDORA_POOL_SIZE"] = "3",
            ["PANDORA_MEMORY_RESERVE"] = $"{reserve}",
        });
        await server.WaitForWarmAsync(3);
        var sandboxes = new List<Sandbox>();
        PandoraApiException? refusal = null;
        while (refusal is null && sandboxes.Count < 6)
        {
            try
            {
                sandboxes.Add(await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromMinutes(10) }));
            }
            catch (PandoraApiException e)
            {
                refusal = e;
            }
        }

        Assert.Equal((4, "host_full"), (sandboxes.Count, refusal?.Code));
        // Each guest uses most of the memory that it was promised.
        await Task.WhenAll(sandboxes.Select(s => s.ExecAsync(
            "head -c 150000000 /dev/zero | tail -c 150000000 > /dev/null; true", new ExecOptions { Timeout = TimeSpan.FromSeconds(240) })));
        var health = await server.Pandora.GetHealthAsync();
        Assert.Equal(4 * 512, health.Capacity!.UsedMemoryMib);
        Assert.True(health.Capacity.MemoryMib - health.Capacity.HeldMemoryMib < 512);
        Assert.All(await Task.WhenAll(sandboxes.Select(s => s.ExecAsync("true"))), r => Assert.Equal(0, r.ExitCode));
        var (most, used) = CgroupOf(server);
        Assert.InRange(most, 1, (HostMemoryMib() - reserve + 1) * 1024 * 1024);
        Assert.InRange(used, 1, most);
        // A warm microVM gives way to another size, and comes back.
        await sandboxes[0].DisposeAsync();
        await sandboxes[1].DisposeAsync();
        await server.WaitForWarmAsync(2);
        await using var large = await server.Pandora.CreateAsync(new CreateSandboxOptions { MemoryMib = 512 });
        Assert.StartsWith("5", (await large.ExecAsync("free -m | awk '/Mem:/ { print $2 + 40 }'")).Stdout);
        await large.DisposeAsync();
        await server.WaitForWarmAsync(2);
    }

    [Fact]
    public async Task Keys_of_the_command_line_work_at_once_and_end_what_they_began()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "2" });
        await server.WaitForWarmAsync(2);
        Assert.Equal(HttpStatusCode.OK, (await server.Http.GetAsync("/sandboxes")).StatusCode);
        await RunAsync(server, "project", "create", "web", "--max-sandboxes", "1", "--audit-commands", "true");
        var key = await RunAsync(server, "key", "create", "--project", "web", "--name", "ci");
        Assert.StartsWith("pnd_", key);
        Assert.Equal(HttpStatusCode.Unauthorized, (await server.Http.GetAsync("/sandboxes")).StatusCode);
        var other = await RunAsync(server, "key", "create", "--role", "user");
        // The host's own command line has a key, which the test's own requests use from here on.
        var own = (await File.ReadAllTextAsync(Path.Combine(server.DataDir, "cli.key"))).Trim();
        server.Http.DefaultRequestHeaders.Add("X-API-Key", own);
        var created = await SendAsync(server, HttpMethod.Post, "/sandboxes", key, new { idle_timeout = 300 });
        var id = created.Body.GetProperty("sandbox_id").GetString()!;
        Assert.Equal(429, (await SendAsync(server, HttpMethod.Post, "/sandboxes", key, new { })).Status);
        Assert.Equal(404, (await SendAsync(server, HttpMethod.Get, $"/sandboxes/{id}", other)).Status);

        // A stream of output, which the revocation cuts.
        using var request = new HttpRequestMessage(HttpMethod.Post, $"/sandboxes/{id}/exec")
        {
            Content = JsonContent.Create(new { code = "while sleep 0.2; do echo tick; done", timeout = 120 }),
        };
        request.Headers.Add("X-API-Key", key);
        request.Headers.Add("Accept", "text/event-stream");
        using var response = await server.Http.SendAsync(request, HttpCompletionOption.ResponseHeadersRead);
        using var reader = new StreamReader(await response.Content.ReadAsStreamAsync());
        while (!(await reader.ReadLineAsync())!.Contains("tick", StringComparison.Ordinal))
        {
            // Not yet.
        }

        await RunAsync(server, "key", "revoke", "ci");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(60), TimeProvider.System);
        await Assert.ThrowsAnyAsync<IOException>(async () =>
        {
            while (await reader.ReadLineAsync(limit.Token) is not null)
            {
                // What was sent before.
            }
        });
        Assert.Equal(401, (await SendAsync(server, HttpMethod.Get, "/sandboxes", key)).Status);

        Assert.Equal(200, (await SendAsync(server, HttpMethod.Get, $"/sandboxes/{id}", own)).Status);
        var lines = (await RunAsync(server, "audit", "--project", "web", "--json")).Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => JsonDocument.Parse(l).RootElement).ToList();
        Assert.Contains(lines, l => Has(l, "operation", "create") && Has(l, "sandbox", id) && Has(l, "key", "ci"));
        Assert.Contains(lines, l => Has(l, "operation", "create") && Has(l, "outcome", "quota_exceeded"));
        Assert.Contains(lines, l => Has(l, "operation", "exec") && Has(l, "command", "while sleep 0.2; do echo tick; done"));

        // A restart keeps the keys, the project of the sandbox, and its quota.
        await server.KillAsync();
        await server.StartAsync();
        var next = await RunAsync(server, "key", "create", "--project", "web");
        Assert.Equal(200, (await SendAsync(server, HttpMethod.Get, $"/sandboxes/{id}", next)).Status);
        Assert.Equal(404, (await SendAsync(server, HttpMethod.Get, $"/sandboxes/{id}", other)).Status);
        Assert.Equal(429, (await SendAsync(server, HttpMethod.Post, "/sandboxes", next, new { })).Status);
        Assert.Equal(204, (await SendAsync(server, HttpMethod.Delete, $"/sandboxes/{id}", next)).Status);
    }

    private static bool Has(JsonElement line, string member, string value) =>
        line.TryGetProperty(member, out var found) && found.ToString() == value;

    private static async Task<string> RunAsync(ServerProcess server, params string[] arguments)
    {
        var result = await Command.RunAsync(
            "env", [$"PANDORA_DATA_DIR={server.DataDir}", Path.Combine(Repository.Root, Server), .. arguments]);
        return result.Trim();
    }

    private static async Task<(int Status, JsonElement Body)> SendAsync(
        ServerProcess server, HttpMethod method, string path, string key, object? body = null)
    {
        using var request = new HttpRequestMessage(method, path) { Content = body is null ? null : JsonContent.Create(body) };
        request.Headers.Add("X-API-Key", key);
        using var response = await server.Http.SendAsync(request);
        var text = await response.Content.ReadAsStringAsync();
        return ((int)response.StatusCode, text.Length == 0 ? default : JsonDocument.Parse(text).RootElement);
    }

    // The limit and the use of all VMMs together, in bytes.
    private static (long Most, long Used) CgroupOf(ServerProcess server)
    {
        var name = $"pandora-{server.Instance}";
        var v1 = $"/sys/fs/cgroup/memory/{name}";
        var (path, most, used) = Directory.Exists(v1)
            ? (v1, "memory.limit_in_bytes", "memory.usage_in_bytes")
            : ($"/sys/fs/cgroup/{name}", "memory.max", "memory.current");
        return (Read(most), Read(used));

        long Read(string file) => long.Parse(File.ReadAllText(Path.Combine(path, file)), CultureInfo.InvariantCulture);
    }

    private static long HostMemoryMib() => GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (1024 * 1024);
}
