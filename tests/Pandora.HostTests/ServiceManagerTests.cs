using System.Net.Sockets;
using System.Text;
using Pandora.TestHost;
using Pandora.Linux;

namespace Pandora.HostTests;

/// <summary>The server under systemd: the notifications that it sends, and the unit file of this repository.</summary>
public sealed class ServiceManagerTests : IAsyncLifetime
{
    private TestWorld _world = null!;

    public async ValueTask InitializeAsync() => _world = await TestWorld.CreateAsync();

    public ValueTask DisposeAsync() => _world.DisposeAsync();

    [Fact]
    public async Task The_server_notifies_that_it_is_ready_alive_and_stopping()
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
    public async Task Systemd_accepts_the_unit()
    {
        Assert.SkipUnless(File.Exists("/usr/bin/systemd-analyze"), "systemd-analyze is not installed here");
        var unit = Path.Combine(Repository.Root, "deploy/systemd/pandora.service");
        // systemd-analyze reports a program that does not exist, so the unit is checked with /bin/true.
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
