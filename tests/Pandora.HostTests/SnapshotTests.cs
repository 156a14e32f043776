using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pandora.HostTests.World;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>Snapshots that are used, missing or damaged.</summary>
public sealed class SnapshotTests : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public async ValueTask DisposeAsync()
    {
        await _world.DisposeAsync();
        Directory.Delete(_directory, recursive: true);
    }

    [Fact]
    public async Task A_snapshot_is_made_once_and_used_by_the_next_server_and_restored_microVMs_are_adopted()
    {
        // A new directory, without the snapshot that other tests begin with.
        await using var server = await StartAsync(directory: Directory.CreateDirectory(Path.Combine(_directory, "data")).FullName);
        await server.WaitForSnapshotAsync();
        Assert.Equal(0, await server.StopAsync());
        await server.StartAsync();
        await server.WaitForWarmAsync(1);
        Assert.Single(Lines(server, "was made in"));
        Assert.EndsWith("(snapshot)", Lines(server, "is warm after")[^1]);

        // A VMM cannot write to the files that other microVMs start from, even when an attacker controls the VMM.
        await using (var first = await server.Pandora.CreateAsync())
        {
            foreach (
                var descriptor in Directory
                    .GetFiles($"/proc/{server.VmmPidOf(first.Id)}/fd")
                    .Where(d =>
                        new FileInfo(d).LinkTarget is { } t
                        && (t.Contains("snapshot", StringComparison.Ordinal) || t.Contains("/memory", StringComparison.Ordinal))))
            {
                var flags = Convert.ToInt32(
                    File.ReadLines(descriptor.Replace("/fd/", "/fdinfo/", StringComparison.Ordinal))
                        .First(l => l.StartsWith("flags:", StringComparison.Ordinal))
                        .Split('\t')[1],
                    8);
                // The file is open read-only (O_ACCMODE), or it is a sealed file in memory, to which writes fail.
                Assert.True(
                    (flags & 3) == 0
                        || new FileInfo(descriptor).LinkTarget!.StartsWith("/memfd:pandora-snapshot", StringComparison.Ordinal),
                    $"{new FileInfo(descriptor).LinkTarget} {Convert.ToString(flags, 8)}");
            }
        }

        // The server adopts restored microVMs like others, with their agents.
        var sandbox = await server.Pandora.CreateAsync();
        await sandbox.ExecAsync("echo kept > /root/file");
        await server.KillAsync();
        await server.StartAsync();
        Assert.Equal("kept\n", (await sandbox.ExecAsync("cat /root/file")).Stdout);
        Assert.Single(Lines(server, "was made in"));
    }

    [Fact]
    public async Task A_pool_that_is_set_to_boot_makes_no_snapshot()
    {
        await using var server = await StartAsync(new() { ["PANDORA_POOL_START"] = "boot" });
        await server.WaitForWarmAsync(1);
        await using var sandbox = await server.Pandora.CreateAsync();
        await server.WaitForWarmAsync(1);
        Assert.All(Lines(server, "is warm after"), l => Assert.EndsWith("(boot)", l));
        Assert.False(Directory.Exists(Path.Combine(server.DataDir, "snapshots")));
        Assert.Contains("PANDORA_POOL_START=boot", server.Log);
    }

    [Theory]
    [InlineData("state that is no state")]
    [InlineData("memory of another snapshot")]
    [InlineData("memory that is cut off")]
    public async Task A_snapshot_that_matches_its_description_and_cannot_be_restored_is_dropped_and_microVMs_boot(string fault)
    {
        await using var server = await StartAsync();
        await server.WaitForSnapshotAsync();
        Assert.Equal(0, await server.StopAsync());
        var path = Assert.Single(server.Snapshots);
        if (fault == "memory of another snapshot")
        {
            var first = Path.Combine(_directory, "memory");
            File.Move(Path.Combine(path, "memory"), first);
            await server.StartAsync();
            await UntilAsync(() => server.Snapshots.Count == 1 && Lines(server, "was made in").Count == 1);
            Assert.Equal(0, await server.StopAsync());
            File.Move(first, Path.Combine(path, "memory"), overwrite: true);
        }
        else if (fault == "state that is no state")
        {
            await File.WriteAllTextAsync(Path.Combine(path, "state"), new string('x', 50_000));
        }
        else
        {
            await using var memory = File.OpenWrite(Path.Combine(path, "memory"));
            memory.SetLength(20 << 20);
        }

        UpdateDescription(path);
        await server.StartAsync();
        await using (var sandbox = await server.Pandora.CreateAsync())
        {
            Assert.Equal("fine\n", (await sandbox.ExecAsync("echo fine")).Stdout);
        }

        await UntilAsync(() => Lines(server, "is dropped: it failed to restore 2 times in a row").Count == 1);
        Assert.Equal(2, Lines(server, "could not be restored and is booted instead").Count);
        Assert.Matches("pandora_restore_failures_total\\{[^}]*\\} 2\n", await server.Pandora.GetMetricsAsync());
        Assert.Empty(server.Snapshots);
        await using var later = await server.Pandora.CreateAsync();
        Assert.Equal(0, (await later.ExecAsync("true")).ExitCode);
    }

    [Theory]
    [InlineData(HostileAgent.Silence, "did not answer within 10 s")]
    [InlineData(HostileAgent.Flood, "sends without being asked")]
    public async Task An_agent_that_does_not_resume_causes_a_boot_and_no_other_harm(string resume, string words)
    {
        var templates = await HostileAgent.BuildTemplateAsync(_directory, resume);
        await using var server = await StartAsync(new() { ["PANDORA_TEMPLATE_DIR"] = templates, ["PANDORA_EXEC"] = "ssh" });
        await server.WaitForSnapshotAsync();
        for (var i = 0; i < 2; i++)
        {
            await using var sandbox = await server.Pandora.CreateAsync();
            Assert.Equal("fine\n", (await sandbox.ExecAsync("echo fine")).Stdout);
        }

        await UntilAsync(() => Lines(server, "is dropped: it failed to restore 2 times in a row").Count == 1);
        Assert.All(
            Lines(server, "could not be restored"),
            l => Assert.Contains($"at step 'agent': {(words.StartsWith("did", StringComparison.Ordinal) ? "the guest's agent " : "")}", l));
        Assert.All(Lines(server, "could not be restored"), l => Assert.Contains(words, l));
        // The flood must not grow the server's memory: 300 MiB is more than a server uses that does only this.
        Assert.InRange(
            double.Parse(
                File.ReadLines($"/proc/{server.Pid}/status")
                    .First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
                    .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) / 1024,
            1,
            300);
    }

    [Fact]
    public async Task When_the_hosts_clock_is_set_the_clocks_of_warm_microVMs_follow()
    {
        Assert.SkipUnless(SteppedClock.IsAvailable, "libfaketime is not installed: './pandora test' fetches it");
        var clock = new SteppedClock(_directory);
        await using var server = await StartAsync(new(clock.Settings));
        await server.WaitForSnapshotAsync();
        foreach (var offset in new[] { TimeSpan.FromHours(5), TimeSpan.FromHours(-30), TimeSpan.Zero })
        {
            await server.WaitForWarmAsync(1);
            clock.Set(offset);
            // The server needs a second to see the clock, a second to notice the step, and the time to ask its warm microVM. Nothing shows
            // when that is done: the clock of a claimed microVM is not set. It would be set every 30 s without a step, too.
            await Task.Delay(TimeSpan.FromSeconds(12), TimeProvider.System);
            await using var sandbox = await server.Pandora.CreateAsync();
            Assert.True(sandbox.IsWarm);
            var guest = DateTimeOffset.FromUnixTimeSeconds(long.Parse((await sandbox.ExecAsync("date +%s")).Stdout));
            Assert.InRange((guest - TimeProvider.System.GetUtcNow() - offset).TotalSeconds, -30, 2);
        }
    }

    [Fact]
    public async Task A_disk_that_is_full_while_a_snapshot_is_written_prevents_only_the_snapshot()
    {
        var disk = Directory.CreateDirectory(Path.Combine(_directory, "small")).FullName;
        // The file system has room for the disks of a few microVMs, but not for a guest's memory.
        await Command.RunAsync("mount", ["-t", "tmpfs", "-o", "size=48m,mode=0700", "pandora-small", disk]);
        try
        {
            // Without a reserve, so that only writing the snapshot fails for lack of room.
            await using var server = await StartAsync(new() { ["PANDORA_DISK_RESERVE"] = "0", ["PANDORA_DISK_SHARE"] = "0" }, disk);
            int Logged() => Lines(server, "No snapshot of template default could be made").Count;
            await UntilAsync(() => Logged() > 0);
            Assert.Empty(Directory.GetFileSystemEntries(Path.Combine(disk, "snapshots")));
            await using var sandbox = await server.Pandora.CreateAsync();
            Assert.Equal("fine\n", (await sandbox.ExecAsync("echo fine")).Stdout);
            // A microVM that starts ten seconds later tries again. The server counts each attempt, and then logs it.
            var logged = Logged();
            var metrics = await server.Pandora.GetMetricsAsync();
            var counted = int.Parse(Regex.Match(metrics, "pandora_snapshots_total\\{[^}]*outcome=\"failed\"\\} ([0-9]+)").Groups[1].Value);
            await UntilAsync(() => Logged() >= counted);
            Assert.True(counted >= logged, $"{counted} counted, {logged} logged");
        }
        finally
        {
            await Command.RunAsync("umount", [disk]);
        }
    }

    private Task<ServerProcess> StartAsync(Dictionary<string, string>? settings = null, string? directory = null) =>
        ServerProcess.StartAsync(_world, new Dictionary<string, string>(settings ?? []) { ["PANDORA_POOL_SIZE"] = "1" }, directory);

    private static List<string> Lines(ServerProcess server, string words) =>
        [.. server.Log.Split('\n').Where(l => l.Contains(words, StringComparison.Ordinal))];

    // Writes the files' current lengths and hashes into the description, so that only the VMM or the guest can find the fault.
    private static void UpdateDescription(string path)
    {
        var description = JsonNode.Parse(File.ReadAllText(Path.Combine(path, "snapshot.json")))!;
        foreach (var (name, file) in description["files"]!.AsObject())
        {
            file!["length"] = new FileInfo(Path.Combine(path, name)).Length;
            file["sha256"] = SparseFile.Hash(Path.Combine(path, name));
        }

        File.WriteAllText(Path.Combine(path, "snapshot.json"), description.ToJsonString());
    }

    private static async Task UntilAsync(Func<bool> condition)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(5), TimeProvider.System);
        while (!condition())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(100), TimeProvider.System, limit.Token);
        }
    }
}
