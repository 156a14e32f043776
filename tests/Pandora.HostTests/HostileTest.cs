using System.Net;
using System.Net.Sockets;
using Pandora.Client;
using Pandora.TestHost;

namespace Pandora.HostTests;

/// <summary>A world with a server, and with listeners that a guest must not reach.</summary>
public class HostileFixture : ServerFixture
{
    internal override Dictionary<string, string> Settings => new() { ["PANDORA_POOL_SIZE"] = "2", ["PANDORA_MAX_EXECS"] = "32" };

    internal DatagramListener Internet { get; private set; } = null!;

    internal DatagramListener Lan { get; private set; } = null!;

    internal override Task PrepareAsync()
    {
        Internet = World.ListenForDatagrams(World.Internet, TestWorld.InternetAddress, 7001);
        Lan = World.ListenForDatagrams(World.Lan, TestWorld.LanAddress, 7001);
        foreach (var port in new[] { 80, 443, 7000 })
        {
            World.Listen(World.Host, "0.0.0.0", port);
        }

        return Task.CompletedTask;
    }
}

/// <summary>The same with a server that runs commands over SSH.</summary>
public sealed class HostileSshFixture : HostileFixture
{
    internal override Dictionary<string, string> Settings => new(base.Settings) { ["PANDORA_EXEC"] = "ssh" };
}

/// <summary>A hostile sandbox and its neighbour, for tests of one class.</summary>
public abstract class HostileTest(HostileFixture fixture) : IAsyncLifetime
{
    private protected HostileFixture Fixture => fixture;

    private protected ServerProcess Server => fixture.Server;

    private protected Sandbox Hostile { get; private set; } = null!;

    private protected Sandbox Neighbour { get; private set; } = null!;

    public async ValueTask InitializeAsync()
    {
        Hostile = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
        Neighbour = await Server.Pandora.CreateAsync(new CreateSandboxOptions { IdleTimeout = TimeSpan.FromSeconds(300) });
    }

    public async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        // The host can end every guest, however the guest behaves.
        Assert.Equal(0, (await Hostile.EndAsync()).Remaining);
        Assert.Equal(0, (await Neighbour.EndAsync()).Remaining);
    }

    private protected async Task UntilListeningAsync()
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(90), TimeProvider.System);
        while (true)
        {
            using var socket = Fixture.World.Host.Run(() => new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp));
            try
            {
                await socket.ConnectAsync(new IPEndPoint(IPAddress.Parse(Hostile.Wire!.GuestIp), 22), limit.Token);
                return;
            }
            catch (SocketException)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(50), TimeProvider.System, limit.Token);
            }
        }
    }

    // Requires that the neighbour runs a command within the time limit, 120 s: both guests and the server may share two cores.
    private protected async Task MustServeAsync()
    {
        var served = await Neighbour.ExecAsync("echo served", new ExecOptions { Timeout = TimeSpan.FromSeconds(120) });
        Assert.Equal("served\n", served.Stdout);
        await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System);
    }

    private protected static async Task<Exception?> IgnoreAsync(Func<Task> run)
    {
        try
        {
            await run();
            return null;
        }
        catch (Exception e) when (e is PandoraApiException)
        {
            return e;
        }
    }

    private protected static string Indent(string code, int by) => string.Join('\n', code.Split('\n').Select(l => new string(' ', by) + l));

    private protected long HostBytes() => new DriveInfo(Server.DataDir) is var drive ? drive.TotalSize - drive.AvailableFreeSpace : 0;

    private protected long ResidentBytes() =>
        long.Parse(
            File.ReadLines($"/proc/{Server.Pid}/status")
                .First(l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
                .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1]) * 1024;

    private protected long? CgroupBytes(string id)
    {
        string[] paths =
        [
            $"/sys/fs/cgroup/memory/pandora-{Server.Instance}/{id}/memory.max_usage_in_bytes",
            $"/sys/fs/cgroup/pandora-{Server.Instance}/{id}/memory.peak",
        ];
        return paths.FirstOrDefault(File.Exists) is { } path ? long.Parse(File.ReadAllText(path)) : null;
    }

    private protected static long DirectorySize(string path) =>
        Directory.GetFiles(path, "*", SearchOption.AllDirectories).Sum(f => new FileInfo(f) is { Exists: true } file ? file.Length : 0);
}
