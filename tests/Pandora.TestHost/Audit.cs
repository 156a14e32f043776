using System.Text.Json;
using Pandora.Linux;

namespace Pandora.TestHost;

/// <summary>Looks for anything of an instance that is left on the host: it runs at the end of every test that had a server.</summary>
internal static class Audit
{
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

    public static async Task AssertNothingLeftAsync(ServerProcess server, TestWorld world)
    {
        Require("left on the host", await FindAsync(server, world));
        // The product's own audit must see as much, or as little.
        // Snapshots stay as templates do.
        Require(
            "left on the host, by 'doctor --leaks'",
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

    /// <summary>What 'doctor --leaks' lists, in the server's world.</summary>
    public static async Task<IReadOnlyList<JsonElement>> FindByProductAsync(ServerProcess server, TestWorld world, bool fix = false) =>
        [
            .. JsonDocument
                .Parse(await RunAsync(server, world, $"doctor --leaks{(fix ? " --fix" : "")} --json"))
                .RootElement.EnumerateArray(),
        ];

    /// <summary>Ends what a server left that runs no more, as './pandora down' does.</summary>
    public static Task EndLeftAsync(ServerProcess server, TestWorld world) => RunAsync(server, world, "end");

    /// <summary>Removes the lock file of an instance, as a server does when it stops, unless a server holds the lock.</summary>
    public static void RemoveLock(string id)
    {
        try
        {
            // What is opened like this is locked with flock(2), as the server's own is. It is deleted before it is unlocked, too.
            using var held = new FileStream(LockOf(id), FileMode.Open, FileAccess.ReadWrite, FileShare.None);
            File.Delete(LockOf(id));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // There is none, or a server holds it.
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

    /// <summary>Ids of the VMM processes of a server, by the cgroups that each runs in (proc(5), cgroup).</summary>
    public static IReadOnlyList<string> Processes(ServerProcess server)
    {
        var found = new List<string>();
        foreach (var directory in Directory.GetDirectories("/proc").Where(d => int.TryParse(Path.GetFileName(d), out _)))
        {
            try
            {
                // Zombies and the kernel's own threads, which KVM keeps in a VMM's cgroup, have no command line.
                if (
                    File.ReadAllText($"{directory}/cgroup").Contains($"/pandora-{server.Instance}/", StringComparison.Ordinal)
                    && File.ReadAllText($"{directory}/cmdline").Length > 0)
                {
                    found.Add(Path.GetFileName(directory));
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // It ended while it was looked at.
            }
        }

        return found;
    }
}
