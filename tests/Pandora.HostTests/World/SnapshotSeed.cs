using Pandora.HostTests.World;
using Pandora.TestHost;

[assembly: AssemblyFixture(typeof(SnapshotSeed))]

namespace Pandora.HostTests.World;

/// <summary>
/// One snapshot of the default template, made before the first test. The server of each test begins with a copy of the snapshot, like a
/// server that is started for the second time. A server that boots its pool, has other templates or gets a directory begins without, and so
/// does every server whose VMM makes no snapshots.
/// </summary>
public sealed class SnapshotSeed : IAsyncLifetime
{
    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-host-").FullName;

    public async ValueTask InitializeAsync()
    {
        await using var world = await TestWorld.CreateAsync();
        await using var server = await ServerProcess.StartAsync(world, new() { ["PANDORA_POOL_SIZE"] = "0" });
        if (server.Log.Contains("MicroVMs are booted, not restored from snapshots", StringComparison.Ordinal))
        {
            return;
        }

        await server.WaitForSnapshotAsync();
        await ServerProcess.CopySeedAsync(server.DataDir, _directory);
        ServerProcess.Seed = _directory;
    }

    public ValueTask DisposeAsync()
    {
        Directory.Delete(_directory, recursive: true);
        return ValueTask.CompletedTask;
    }
}
