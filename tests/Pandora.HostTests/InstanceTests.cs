using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>The resources of one server that no other may use: names, directories, descriptors, files of its runtime.</summary>
public sealed class InstanceTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public async Task A_copy_of_the_data_directory_does_not_adopt_the_originals_sandboxes(bool sameRunDirectory)
    {
        await using var server = await StartAsync(poolSize: 0);
        var sandbox = await server.Pandora.CreateAsync();
        var copy = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            File.Copy(Path.Combine(server.DataDir, "instance"), Path.Combine(copy, "instance"));
            await using var second = await ServerProcess.StartAsync(
                _world, new()
                {
                    ["PANDORA_RUN_DIR"] = sameRunDirectory ? server.RunDir : Path.Combine(copy, "run"),
                    ["PANDORA_LISTEN"] = "http://127.0.0.1:8001"
                }, copy, waitUntilReady: false);
            second.SkipAudit();
            Assert.Equal(1, await second.WaitForEndAsync());
            Assert.Contains("is a copy of that server's", second.Log);
        }
        finally
        {
            Directory.Delete(copy, recursive: true);
        }

        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        Assert.True(File.Exists($"/run/pandora-locks/{server.Instance}"));
        await server.StopAsync();
        Assert.False(File.Exists($"/run/pandora-locks/{server.Instance}"));
    }

    [Fact]
    public async Task Directories_that_other_users_can_change_are_repaired_and_directories_of_other_users_refused()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            await Command.RunAsync("chmod", ["777", directory]);
            await using (var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" }, directory))
            {
                Assert.Contains($"{directory} could be read or changed by other users (mode 777)", server.Log);
                Assert.Equal("700", (await Command.RunAsync("stat", ["-c", "%a", directory])).Trim());
            }

            foreach (var foreign in new[] { directory, Path.Combine(directory, "run") })
            {
                await Command.RunAsync("chown", ["nobody", foreign]);
                await using var server =
                    await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" }, directory, waitUntilReady: false);
                server.SkipAudit();
                Assert.Equal(1, await server.WaitForEndAsync());
                Assert.Contains($"{foreign} belongs to user 65534", server.LogSinceStart);
                await Command.RunAsync("chown", ["root", foreign]);
            }

            await MustRefuseAsync("/tmp", "a directory that many users share");
            var link = Path.Combine(directory, "link");
            File.CreateSymbolicLink(link, "/etc");
            await Command.RunAsync("chown", ["-h", "nobody", link]);
            await MustRefuseAsync(link, "belongs to user 65534");
            Assert.Equal("755", (await Command.RunAsync("stat", ["-c", "%a", "/etc"])).Trim());
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private async Task MustRefuseAsync(string runDirectory, string why)
    {
        await using var server = await ServerProcess.StartAsync(
            _world, new() { ["PANDORA_POOL_SIZE"] = "0", ["PANDORA_RUN_DIR"] = runDirectory }, waitUntilReady: false);
        server.SkipAudit();
        Assert.Equal(1, await server.WaitForEndAsync());
        Assert.Contains(why, server.LogSinceStart);
    }

    [Fact]
    public async Task A_VMM_has_no_descriptor_of_the_server_or_of_the_servers_parent()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var secret = Path.Combine(directory, "secret");
            await File.WriteAllTextAsync(secret, "");
            await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" }, directory,
                preamble: $"exec 7<> {secret}; exec 8< /etc/hostname;");
            Assert.Contains(secret, LinksOf(server.Pid));
            // Booted and restored VMMs, each started while the server has many other files open.
            await server.WaitForSnapshotAsync();
            foreach (var _ in Enumerable.Range(0, 3))
            {
                await server.WaitForWarmAsync(1);
                var sandbox = await server.Pandora.CreateAsync();
                var links = LinksOf(server.VmmPidOf(sandbox.Id));
                Assert.DoesNotContain(secret, links);
                Assert.DoesNotContain("/etc/hostname", links);
                Assert.DoesNotContain(
                    links, l => l.Contains("/keys/", StringComparison.Ordinal) || l.EndsWith("/lock", StringComparison.Ordinal));
                // A VMM has at most seven sockets: QMP, the agent's questions and its streams, each listening and connected, and one for
                // QEMU's signals. The server has dozens.
                Assert.InRange(links.Count(l => l.StartsWith("socket:", StringComparison.Ordinal)), 0, 7);
                var netlink = (await File.ReadAllLinesAsync($"/proc/{server.Pid}/net/netlink")).Skip(1)
                    .Select(l => l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[^1]).ToHashSet();
                Assert.DoesNotContain(links, l => netlink.Any(n => l == $"socket:[{n}]"));
            }
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    // './pandora' turns .NET's diagnostics off for the tests too. The preamble undoes that, because the runtime makes no files otherwise.
    [Theory]
    [InlineData("unset DOTNET_EnableDiagnostics;", false)]
    [InlineData("export DOTNET_EnableDiagnostics=1;", true)]
    public async Task Files_of_the_runtime_of_a_killed_server_are_removed_at_the_next_start(string preamble, bool makesFiles)
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "0" }, preamble: preamble);
        var pid = server.Pid;
        await server.KillAsync();
        Assert.Equal(makesFiles, RuntimeFilesOf(pid).Count > 0);
        await server.StartAsync();
        Assert.Empty(RuntimeFilesOf(pid));
    }

    // The .NET runtime makes a socket and two pipes in its directory for temporary files, with the pid in their names.
    private static List<string> RuntimeFilesOf(int pid) =>
    [
        .. new[] { $"dotnet-diagnostic-{pid}-*", $"clr-debug-pipe-{pid}-*" }.SelectMany(p => Directory.GetFiles(Path.GetTempPath(), p)),
    ];

    private static List<string> LinksOf(int pid) =>
        [.. Directory.GetFileSystemEntries($"/proc/{pid}/fd").Select(f => new FileInfo(f).LinkTarget ?? "")];

    private Task<ServerProcess> StartAsync(int poolSize) =>
        ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = $"{poolSize}" });
}
