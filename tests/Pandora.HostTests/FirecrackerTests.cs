using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>Properties that only the real Firecracker and its jailer can show.</summary>
public sealed class FirecrackerTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync()
    {
        Assert.SkipUnless(TestVmm.IsFirecracker, "PANDORA_TEST_VMM=firecracker runs the host tests on a real Firecracker");
        _world = await TestWorld.CreateAsync();
    }

    public ValueTask DisposeAsync() => _world?.DisposeAsync() ?? ValueTask.CompletedTask;

    [Fact]
    public async Task A_VMM_is_jailed_with_only_the_files_of_its_machine()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1" });
        var sandbox = await server.Pandora.CreateAsync();
        var other = await server.Pandora.CreateAsync();
        var (status, otherStatus) = (Status(server, sandbox), Status(server, other));
        Assert.NotEqual("0", status["Uid"].Split('\t')[0]);
        Assert.NotEqual(status["Uid"], otherStatus["Uid"]);
        Assert.Equal(0, Convert.ToInt64(status["CapEff"], 16));
        Assert.Equal("2", status["Seccomp"]);
        Assert.Equal(2, status["NSpid"].Split('\t').Length);
        var jail = Path.Combine(server.DataDir, "jail/firecracker", sandbox.Id);
        // A booted machine has its kernel and initrd in the jail, a restored one the files of its snapshot.
        string[] source = server.IsRestored(sandbox.Id) ? ["memory", "state"] : ["initrd", "kernel"];
        string[] common = ["dev", "drive0", "drive1", "firecracker", "firecracker.log", "firecracker.metrics", "firecracker.pid", "run"];
        Assert.Equal(common.Concat(source).Order(), Directory.GetFileSystemEntries(Path.Combine(jail, "root")).Select(Path.GetFileName)
            .Where(n => n != "firecracker.log.end").Order());
        // The initrd is private to the machine. The machine may only read the files that it shares with others.
        foreach (var shared in source.Where(n => n != "initrd").Append("drive0"))
        {
            var mode = File.GetUnixFileMode(Path.Combine(jail, "root", shared));
            Assert.Equal(UnixFileMode.None, mode & (UnixFileMode.GroupWrite | UnixFileMode.OtherWrite));
        }

        await sandbox.EndAsync();
        Assert.False(Directory.Exists(jail));
        await other.DisposeAsync();
    }

    [Fact]
    public async Task Files_on_another_file_system_are_mounted_into_the_jail_and_unmounted_at_the_end()
    {
        var templates = Directory.CreateDirectory($"/dev/shm/pandora-test-{Path.GetRandomFileName()}").FullName;
        try
        {
            Directory.CreateDirectory(Path.Combine(templates, "default"));
            foreach (var file in Directory.GetFiles(Path.Combine(Repository.Templates, "default")))
            {
                var copy = Path.Combine(templates, "default", Path.GetFileName(file));
                Pandora.Linux.SparseFile.Copy(file, copy);
                File.SetUnixFileMode(copy, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.OtherRead);
            }

            await using var server = await ServerProcess.StartAsync(
                _world, new() { ["PANDORA_POOL_SIZE"] = "1", ["PANDORA_TEMPLATE_DIR"] = templates });
            await using (var sandbox = await server.Pandora.CreateAsync())
            {
                Assert.Equal(0, (await sandbox.ExecAsync("test -x /bin/bash")).ExitCode);
                Assert.Contains(File.ReadLines("/proc/self/mountinfo"), l => l.Contains(sandbox.Id, StringComparison.Ordinal));
            }

            await server.KillAsync();
            await server.StartAsync();
            await using var next = await server.Pandora.CreateAsync();
            Assert.Equal(0, (await next.ExecAsync("true")).ExitCode);
        }
        finally
        {
            Directory.Delete(templates, recursive: true);
        }

        Assert.DoesNotContain(File.ReadLines("/proc/self/mountinfo"), l => l.Contains("/jail/firecracker/", StringComparison.Ordinal));
    }

    [Fact]
    public async Task Without_the_jailer_the_server_runs_and_warns()
    {
        await using var server = await ServerProcess.StartAsync(_world, new() { ["PANDORA_POOL_SIZE"] = "1", ["PANDORA_JAIL"] = "false" });
        await using var sandbox = await server.Pandora.CreateAsync();
        Assert.Equal(0, (await sandbox.ExecAsync("true")).ExitCode);
        Assert.Contains((await server.Pandora.GetHealthAsync()).Notes, n => n.Contains("for development only", StringComparison.Ordinal));
        Assert.Contains("PANDORA_JAIL=false", server.Log);
    }

    private static Dictionary<string, string> Status(ServerProcess server, Sandbox sandbox)
    {
        var pid = File.ReadAllText(Path.Combine(server.RunDir, server.Instance, sandbox.Id, "vmm.pid")).Trim();
        return File.ReadLines($"/proc/{pid}/status").Select(l => l.Split(':', 2)).ToDictionary(p => p[0], p => p[1].Trim());
    }
}
