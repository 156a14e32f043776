using System.Net;
using System.Net.Sockets;
using Pandora.Agent.Protocol.Ports;
using Pandora.Tests.Telemetry;

namespace Pandora.Tests.Ports;

/// <summary>The descriptors of the agent's connections. The test runs alone, because it counts those of the process.</summary>
[Collection(nameof(Alone))]
public sealed class AgentDescriptorTests : IAsyncDisposable
{
    private readonly PortTalk _talk = new();

    public ValueTask DisposeAsync() => _talk.DisposeAsync();

    [Fact]
    public async Task No_way_of_ending_leaves_a_descriptor()
    {
        using var listener = AgentConnectTests.Listen(IPAddress.Loopback, backlog: 100);
        using var closed = AgentConnectTests.Listen(IPAddress.Loopback);
        var closedPort = AgentConnectTests.PortOf(closed);
        closed.Close();
        var before = Descriptors();
        for (var i = 0; i < 400; i++)
        {
            await (await _talk.AskAsync(closedPort)).ExpectFailureAsync(PortFailureKind.Closed);
            var wire = await _talk.ConnectAsync(AgentConnectTests.PortOf(listener));
            using var program = await listener.AcceptAsync();
            switch (i % 4)
            {
                case 0:
                    wire.Close();
                    break;
                case 1:
                    program.LingerState = new LingerOption(true, 0);
                    program.Close();
                    await wire.ExpectFailureAsync(PortFailureKind.Guest);
                    break;
                case 2:
                    program.Shutdown(SocketShutdown.Send);
                    await wire.ExpectAsync(PortMessage.EndRead);
                    await wire.SendAsync(PortMessage.EndWrite);
                    Assert.Null(await wire.ReadAsync());
                    wire.Close();
                    break;
                default:
                    await wire.SendAsync(PortMessage.Opened);
                    await wire.ExpectFailureAsync(PortFailureKind.Protocol);
                    break;
            }
        }

        await _talk.WaitUntilIdleAsync();
        // Each of the four ways comes a hundred times.
        Assert.InRange(Descriptors(), 0, before + 50);
    }

    private static int Descriptors() => Directory.GetFiles("/proc/self/fd").Length;
}
