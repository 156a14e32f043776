using System.Text.Json;
using Pandora.Client;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary><c>doctor --leaks</c>: every resource has an owner, and an orphan is found and removed.</summary>
public sealed class LeakAuditTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task Every_resource_of_a_server_has_an_owner_and_planted_orphans_have_none()
    {
        // Over SSH each sandbox has a connection that the host's kernel tracks.
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1", ["PANDORA_EXEC"] = "ssh" });
        var sandbox = await server.Pandora.CreateAsync();
        await server.WaitForSnapshotAsync();
        await server.WaitForWarmAsync(1);
        var found = await Audit.FindByProductAsync(server, _world);
        Assert.All(found, r => Assert.True(OwnerOf(r) is not null, r.ToString()));
        Assert.Contains(found, r => r.GetProperty("kind").GetString() == "Snapshot" && OwnerOf(r) == "template default");
        var kinds = found.Where(r => OwnerOf(r) == $"sandbox {sandbox.Id}").Select(r => r.GetProperty("kind").GetString()!).ToHashSet();
        Assert.Superset(new HashSet<string> { "Process", "Cgroup", "Interface", "Namespace", "Tracking", "Socket", "File" }, kinds);

        // One orphan of each kind that a dead microVM could leak. The server knows none of them.
        var (id, lost) = (server.Instance, "lost0000000000000000lost");
        var cgroup = Directory.GetDirectories(
            "/sys/fs/cgroup", $"pandora-{id}", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 1 })[0];
        Directory.CreateDirectory(Path.Combine(cgroup, lost));
        var jail = Directory.CreateDirectory(Path.Combine(server.DataDir, "jail/firecracker", lost, "root")).FullName;
        await Command.RunAsync("mount", ["-t", "tmpfs", "orphan", jail]);
        await Command.RunAsync("ip", ["netns", "add", $"pnd-{id}-999"]);
        await TestWorld.InAsync(_world.Host, $"link add pnd{id}v999 type veth peer name peer999");
        await TestWorld.NftAsync(
            _world.Host.Path, $"add table inet other\nadd chain inet other c\nadd rule inet other c accept comment \"pandora-{id}\"");
        await File.WriteAllTextAsync(Path.Combine(server.DataDir, "disks", $"{lost}.ext4"), "");
        Directory.CreateDirectory(Path.Combine(server.RunDir, id, lost));
        var orphan = Directory.CreateDirectory(Path.Combine(server.DataDir, "snapshots", "lost-0123456789abcdef")).FullName;
        await File.WriteAllTextAsync(Path.Combine(orphan, "snapshot.json"), "{}");
        using var process = System.Diagnostics.Process.Start(
            new System.Diagnostics.ProcessStartInfo("sh", ["-c", $"sleep 300; : {server.RunDir}/{id}/{lost}/vmm.log"])
            {
                Environment = { ["PANDORA_MICROVM"] = lost },
            })!;
        // A process that only names a file of the microVM in its command line is not a process of the microVM.
        using var reader = System.Diagnostics.Process.Start("sh", ["-c", $"sleep 300; : {server.RunDir}/{id}/{lost}/vmm.log"]);

        // The accept rule in another program's table belongs to the server, so it is no orphan.
        var leaked = Leaked(await Audit.FindByProductAsync(server, _world));
        Assert.Equal(["Cgroup", "Chroot", "File", "File", "Interface", "Mount", "Namespace", "Process", "Snapshot"],
            leaked.Select(r => r.GetProperty("kind").GetString()!).Order(StringComparer.Ordinal));
        Assert.All(leaked, r => Assert.Matches($"{lost}|999|lost-0123456789abcdef|^{process.Id}$", r.GetProperty("name").GetString()));

        Assert.Empty(Leaked(await Audit.FindByProductAsync(server, _world, fix: true)));
        await process.WaitForExitAsync().WaitAsync(TimeSpan.FromSeconds(60));
        Assert.False(reader.HasExited);
        reader.Kill(entireProcessTree: true);
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        await TestWorld.NftAsync(_world.Host.Path, "delete table inet other");
    }

    [Fact]
    public async Task The_server_counts_and_logs_an_orphan()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var lost = Path.Combine(server.DataDir, "disks", "lost0000000000000000lost.ext4");
        await File.WriteAllTextAsync(lost, "");
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
        while (
            !(await server.Pandora.GetMetricsAsync(limit.Token))
                .Split('\n')
                .Any(l =>
                    l.StartsWith("pandora_leaked_resources", StringComparison.Ordinal)
                    && l.Contains("kind=\"file\"", StringComparison.Ordinal)
                    && l.Contains("} 1", StringComparison.Ordinal)))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(500), TimeProvider.System, limit.Token);
        }

        Assert.Contains("has no owner", server.Log);
        Assert.Single(Leaked(await Audit.FindByProductAsync(server, _world)));
        await Audit.FindByProductAsync(server, _world, fix: true);
        Assert.False(File.Exists(lost));
    }

    [Fact]
    public async Task A_damaged_record_of_a_running_sandbox_is_repaired_and_its_resources_are_no_orphans()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" });
        await using var sandbox = await server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        var record = Path.Combine(server.RunDir, server.Instance, sandbox.Id, "record.json");
        var before = await File.ReadAllTextAsync(record);
        await File.WriteAllTextAsync(record, "{\"version\":2,");
        // doctor runs in another process. It still finds the owner of slot, interface and namespace, by the microVM's id.
        Assert.Empty(Leaked(await Audit.FindByProductAsync(server, _world, fix: true)));
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(120), TimeProvider.System);
        // The server repairs the record first, and then says so.
        while (await File.ReadAllTextAsync(record) != before || !server.Log.Contains("was wrong (", StringComparison.Ordinal))
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, limit.Token);
        }

        Assert.DoesNotContain("has no owner", server.Log);
        Assert.Matches(@"pandora_records_mended_total\{[^}]*\} 1\b", await server.Pandora.GetMetricsAsync());
        // Without a server too, a damaged record is no reason to remove a running microVM.
        await server.KillAsync();
        await File.WriteAllTextAsync(record, "");
        Assert.Empty(Leaked(await Audit.FindByProductAsync(server, _world, fix: true)));
        Assert.Single(Audit.Processes(server));
        await server.StartAsync();
        await Assert.ThrowsAsync<SandboxGoneException>(() => sandbox.ExecAsync("true"));
    }

    private static string? OwnerOf(JsonElement resource) => resource.GetProperty("owner").GetString();

    private static List<JsonElement> Leaked(IReadOnlyList<JsonElement> found) => [.. found.Where(r => OwnerOf(r) is null)];
}
