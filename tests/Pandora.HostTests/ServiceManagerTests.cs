using System.Net.Sockets;
using System.Text;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>The server under a service manager: what it tells systemd, and the unit that ships with it.</summary>
public sealed class ServiceManagerTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task It_tells_when_it_is_up_that_it_is_alive_and_that_it_stops()
    {
        var path = Path.Combine(Path.GetTempPath(), $"pandora-test-{Path.GetRandomFileName()}");
        using var manager = new Socket(AddressFamily.Unix, SocketType.Dgram, ProtocolType.Unspecified);
        manager.Bind(new UnixDomainSocketEndPoint(path));
        try
        {
            await using var server = await ServerProcess.StartAsync(
                _world,
                new()
                {
                    ["PANDORA_POOL_SIZE"] = "0",
                    ["NOTIFY_SOCKET"] = path,
                    ["WATCHDOG_USEC"] = "400000",
                });
            Assert.Equal("READY=1", await ReceiveAsync(manager));
            for (var i = 0; i < 5; i++)
            {
                Assert.Equal("WATCHDOG=1", await ReceiveAsync(manager));
            }

            server.Signal(15);
            string message;
            do
            {
                message = await ReceiveAsync(manager);
            }
            while (message == "WATCHDOG=1");
            Assert.Equal("STOPPING=1", message);
            Assert.Equal(0, await server.WaitForEndAsync());
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public async Task Systemd_takes_the_unit()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/systemd-analyze"), "systemd-analyze is not installed here");
        var unit = Path.Combine(Repository.Root, "deploy/systemd/pandora.service");
        // It complains of a program that is not there; the rest must be right.
        var output = await Command.RunAsync(
            "sh",
            [
                "-c",
                "sed 's,/opt/pandora/pandora up,/bin/true,' \"$1\" > \"$2/pandora.service\"; systemd-analyze verify "
                    + "\"$2/pandora.service\" 2>&1",
                "verify",
                unit,
                Path.GetTempPath(),
            ]);
        File.Delete(Path.Combine(Path.GetTempPath(), "pandora.service"));
        Assert.DoesNotContain("pandora.service", output);
    }

    private static async Task<string> ReceiveAsync(Socket socket)
    {
        var buffer = new byte[256];
        using var limit = new CancellationTokenSource(TimeSpan.FromSeconds(20), TimeProvider.System);
        return Encoding.ASCII.GetString(buffer, 0, await socket.ReceiveAsync(buffer, limit.Token)).Trim();
    }
}
