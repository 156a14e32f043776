using System.Net.Http.Json;
using System.Text.Json;
using Pandora.Linux;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Sandboxes in other sizes than their template's, as their guests see them.</summary>
public sealed class SizeTests : IAsyncLifetime
{
    private static readonly object Size = new { memory_mib = 384, vcpus = 2, disk_mib = 3072, idle_timeout = 600 };
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public async ValueTask DisposeAsync()
    {
        await _world.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_size_boots_at_its_first_use_and_is_restored_later_and_its_guests_have_it()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        await server.WaitForSnapshotAsync();
        var first = await CreateAsync(server, Size);
        Assert.Equal(("boot", false), (first.GetProperty("start").GetString(), first.GetProperty("warm").GetBoolean()));
        await HasSizeAsync(server, first);
        await ExecAsync(server, first, "echo first > /root/file");
        await UntilAsync(() => server.Snapshots.Any(s => s.Contains("default@384m-2c-3072d-", StringComparison.Ordinal)));

        var later = await CreateAsync(server, Size);
        Assert.Equal("snapshot", later.GetProperty("start").GetString());
        await HasSizeAsync(server, later);
        // Its disk is a new one, and files beyond the template's size have room.
        Assert.Equal("none\n", await ExecAsync(server, later, "cat /root/file 2>/dev/null || echo none"));
        var owners = await Audit.FindByProductAsync(server, _world);
        Assert.All(owners, r => Assert.True(r.GetProperty("owner").ValueKind != JsonValueKind.Null, r.ToString()));

        // The template's own size is still warm, and a restarted server knows each sandbox's size.
        var own = await CreateAsync(server, new { idle_timeout = 600 });
        Assert.Equal("1 2048", await SeenAsync(server, own));
        await server.KillAsync();
        await server.StartAsync();
        await HasSizeAsync(server, first);
        await HasSizeAsync(server, later);
        var third = await CreateAsync(server, Size);
        Assert.Equal("snapshot", third.GetProperty("start").GetString());
    }

    [Fact]
    public async Task The_snapshots_of_sizes_go_with_their_template()
    {
        var templates = Directory.CreateDirectory(Path.Combine(_directory, "templates")).FullName;
        foreach (var name in new[] { "default", "web" })
        {
            await Command.RunAsync("cp", ["-a", "--reflink=auto", "--sparse=always", Path.Combine(Repository.Templates, "default"),
                Path.Combine(templates, name)]);
        }

        var description = Path.Combine(templates, "web", "template.json");
        await File.WriteAllTextAsync(description, (await File.ReadAllTextAsync(description)).Replace(
            "\"name\":\"default\"", "\"name\":\"web\",\"max_memory_mib\":512,\"max_vcpus\":1", StringComparison.Ordinal));
        await using var server = await ServerProcess.StartAsync(
            _world, new() { ["PANDORA_POOL_SIZE"] = "0", ["PANDORA_TEMPLATE_DIR"] = templates });
        foreach (var (field, value) in new[] { ("memory_mib", 513), ("vcpus", 2), ("disk_mib", 64) })
        {
            var (status, problem) = await PostAsync(
                server, "/sandboxes", new Dictionary<string, object> { ["template"] = "web", [field] = value });
            Assert.Equal(400, status);
            Assert.Contains("with template 'web'", problem.GetProperty("errors").GetProperty(field).ToString());
        }

        var sandbox = await CreateAsync(server, new { template = "web", memory_mib = 320, idle_timeout = 600 });
        Assert.Equal("boot", sandbox.GetProperty("start").GetString());
        await UntilAsync(() => server.Snapshots.Any(s => s.Contains("web@320m-1c-2048d-", StringComparison.Ordinal)));
        await RunServerAsync(server, templates, "template", "rm", "web");
        Assert.DoesNotContain(server.Snapshots, s => Path.GetFileName(s).StartsWith("web", StringComparison.Ordinal));
        // The sandbox lives on, although its template and its snapshot are gone.
        Assert.Equal("fine\n", await ExecAsync(server, sandbox, "echo fine"));
        Assert.All(
            await Audit.FindByProductAsync(server, _world),
            r => Assert.True(r.GetProperty("owner").ValueKind != JsonValueKind.Null, r.ToString()));
    }

    private static async Task HasSizeAsync(ServerProcess server, JsonElement created)
    {
        Assert.Equal("2 3072", await SeenAsync(server, created));
        var memory = int.Parse((await ExecAsync(server, created, "awk '/^MemTotal/ { print $2 }' /proc/meminfo")).Trim()) / 1024;
        Assert.InRange(memory, 300, 384);
        var shown = await server.Http.GetFromJsonAsync<JsonElement>($"/sandboxes/{IdOf(created)}");
        Assert.Equal(
            (384, 2, 3072),
            (shown.GetProperty("memory_mib").GetInt32(), shown.GetProperty("vcpus").GetInt32(), shown.GetProperty("disk_mib").GetInt32()));
    }

    // Processors, and the size of the disk in MiB.
    private static async Task<string> SeenAsync(ServerProcess server, JsonElement created)
    {
        var seen = (await ExecAsync(server, created, "nproc; blockdev --getsize64 /dev/vdb; df --output=size -BM / | tail -1")).Split('\n');
        var mib = long.Parse(seen[1]) >> 20;
        // Tables take a few per cent of the file system.
        Assert.InRange(int.Parse(seen[2].Trim().TrimEnd('M')), mib * 0.94, mib);
        return $"{seen[0]} {mib}";
    }

    private static string IdOf(JsonElement created) => created.GetProperty("sandbox_id").GetString()!;

    private static async Task<JsonElement> CreateAsync(ServerProcess server, object body)
    {
        var (status, created) = await PostAsync(server, "/sandboxes", body);
        Assert.True(status == 201, created.ToString());
        return created;
    }

    private static async Task<string> ExecAsync(ServerProcess server, JsonElement created, string code)
    {
        var (status, result) = await PostAsync(server, $"/sandboxes/{IdOf(created)}/exec", new { code, timeout = 60 });
        Assert.True(status == 200, result.ToString());
        return result.GetProperty("stdout").GetString()!;
    }

    private static async Task<(int Status, JsonElement Body)> PostAsync(ServerProcess server, string path, object body)
    {
        using var answer = await server.Http.PostAsJsonAsync(path, body);
        return ((int)answer.StatusCode, await answer.Content.ReadFromJsonAsync<JsonElement>());
    }

    private static Task RunServerAsync(ServerProcess server, string templates, params string[] arguments) =>
        Command.RunAsync(
            Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server"), arguments,
            environment: new Dictionary<string, string> { ["PANDORA_DATA_DIR"] = server.DataDir, ["PANDORA_TEMPLATE_DIR"] = templates });

    private static async Task UntilAsync(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(4), TimeProvider.System);
        while (!condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }
    }
}
