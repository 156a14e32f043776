using System.Text.Json;
using Pandora.Linux;

namespace Pandora.TestHost;

/// <summary>Scans the host for resources of an instance. It runs at the end of every test that started a server.</summary>
internal static class Audit
{
    /// <summary>Lists the resources of the server's instance, found without the server's own code.</summary>
    public static async Task<IReadOnlyList<string>> FindAsync(ServerProcess server, TestWorld world)
    {
        var id = server.Instance;
        var found = new List<string>();
        found.AddRange(Directory.GetFiles("/run/netns", $"pnd-{id}-*").Select(f => $"namespace {f}"));
        found.AddRange(
            (await Command.RunAsync("ip", ["-n", world.Host.Name, "-br", "link"]))
                .Split('\n')
                .Where(l => l.Contains($"pnd{id}", StringComparison.Ordinal))
                .Select(l => $"interface {l}"));
        found.AddRange(
            (await TestWorld.ListRulesAsync(world.Host.Path))
                .Split('\n')
                .Where(l => l.Contains(id, StringComparison.Ordinal))
                .Select(l => $"rule {l.Trim()}"));
        found.AddRange(Processes(server).Select(p => $"process {p}"));
        found.AddRange(
            Directory
                .GetDirectories(
                    "/sys/fs/cgroup", $"pandora-{id}*", new EnumerationOptions { RecurseSubdirectories = true, MaxRecursionDepth = 2 })
                .Select(d => $"cgroup {d}"));
        found.AddRange(File.ReadLines("/proc/mounts").Where(l => l.Contains(id, StringComparison.Ordinal)).Select(l => $"mount {l}"));
        if (File.Exists(LockOf(id)))
        {
            found.Add($"lock {LockOf(id)}");
        }

        foreach (
            var directory in new[]
            {
                server.RunDir,
                Path.Combine(server.DataDir, "disks"),
                Path.Combine(server.DataDir, "jail", "firecracker"),
            }.Where(Directory.Exists))
        {
            found.AddRange(Directory.GetFileSystemEntries(directory, "*", SearchOption.AllDirectories).Select(f => $"file {f}"));
        }

        return found;
    }

    /// <summary>Throws when a resource of the instance remains on the host, or when an interface still forwards.</summary>
    /// <exception cref="TestHostException">Something remains.</exception>
    public static async Task AssertNothingRemainsAsync(ServerProcess server, TestWorld world)
    {
        Require("resources remain on the host", await FindAsync(server, world));
        // The server's own audit must find nothing either. Snapshots of a template stay, as templates do.
        Require(
            "resources remain on the host, by 'doctor --leaks'",
            (await FindByProductAsync(server, world))
                .Where(r => r.GetProperty("kind").GetString() != "Snapshot" || r.GetProperty("owner").GetString() is null)
                .Select(r => r.ToString()));
        var forwarding = world.Host.Run(() =>
            File.ReadAllText("/proc/thread-self/net/route").Length > 0
                ? new[] { "wan0", "lan0", "peer0", "meta0" }
                    .Where(i => File.ReadAllText($"/proc/sys/net/ipv4/conf/{i}/forwarding").Trim() == "1")
                    .ToList()
                : []);
        Require("forwarding is still on", forwarding);
    }

    private static string LockOf(string id) => $"/run/pandora-locks/{id}";

    private static void Require(string what, IEnumerable<string> found) =>
        TestHostException.Require(!found.Any(), $"{what}: {string.Join(", ", found)}");

    /// <summary>Runs 'doctor --leaks' in the server's world and returns the resources that it lists.</summary>
    public static async Task<IReadOnlyList<JsonElement>> FindByProductAsync(ServerProcess server, TestWorld world, bool fix = false) =>
        [
            .. JsonDocument
                .Parse(await RunAsync(server, world, $"doctor --leaks{(fix ? " --fix" : "")} --json"))
                .RootElement.EnumerateArray(),
        ];

    /// <summary>Cleans up the microVMs of a server that no longer runs, as './pandora down' does.</summary>
    public static Task CleanUpAfterAsync(ServerProcess server, TestWorld world) => RunAsync(server, world, "end");

    /// <summary>Removes the lock file of an instance, as a server does when it stops, unless a server holds the lock.</summary>
    public static void RemoveLock(string id)
    {
        try
        {
            // FileShare.None locks the file with flock(2), as the server does. The file is deleted before the lock is released.
            using var held = new FileStream(LockOf(id), FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            File.Delete(LockOf(id));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is no lock file, or a server holds the lock.
        }
    }

    private static Task<string> RunAsync(ServerProcess server, TestWorld world, string arguments) =>
        Command.RunAsync(
            "nsenter",
            [
                $"--net={world.Host.Path}",
                "env",
                "-i",
                $"PATH={Environment.GetEnvironmentVariable("PATH")}",
                $"DOTNET_ROOT={Environment.GetEnvironmentVariable("DOTNET_ROOT")}",
                $"PANDORA_DATA_DIR={server.DataDir}",
                $"PANDORA_TEMPLATE_DIR={server.TemplateDir}",
                $"PANDORA_RUN_DIR={server.RunDir}",
                "sh",
                "-c",
                $"{Path.Combine(Repository.Root, "artifacts/bin/Pandora.Server/release/pandora-server")} {arguments} || [ $? = 1 ]",
            ]);

    /// <summary>Ids of the VMM processes of a server, found by the cgroups that they run in (proc(5), cgroup).</summary>
    public static IReadOnlyList<string> Processes(ServerProcess server)
    {
        var found = new List<string>();
        foreach (var directory in Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
        {
            try
            {
                // Zombies, and the kernel threads that KVM keeps in a VMM's cgroup, have no command line.
                if (
                    File.ReadAllText($"{directory}/cgroup").Contains($"/pandora-{server.Instance}/", StringComparison.Ordinal)
                    && File.ReadAllText($"{directory}/cmdline").Length > 0)
                {
                    found.Add(Path.GetFileName(directory));
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // The process ended meanwhile.
            }
        }

        return found;
    }
}
