using System.Net;
using System.Net.Sockets;
using Pandora.Cli;

namespace Pandora.Tests.Cli;

public sealed class ListenersTests
{
    // 1F40 is 8000; 01 is an established connection.
    private static readonly string[] Table =
    [
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
        "   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0000000000000000 100 0 0 10 0",
        "   1: 0100007F:1F41 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12346 1 0000000000000000 100 0 0 10 0",
        "   2: 0100007F:1F41 0100007F:A2C4 01 00000000:00000000 00:00000000 00000000  1001        0 12347 1 0000000000000000 100 0 0 10 0",
    ];

    [Theory]
    [InlineData(8000, new[] { 1000 })]
    [InlineData(8001, new[] { 0 })]
    [InlineData(8002, new int[0])]
    public void The_users_that_listen_on_a_port_are_found(int port, int[] users) =>
        Assert.Equal(users, Listeners.OwnersIn(Table, port));

    [Fact]
    public void A_port_belongs_to_nobody_until_a_program_listens()
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        socket.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var port = ((IPEndPoint)socket.LocalEndPoint!).Port;
        var self = int.Parse(File.ReadLines("/proc/self/status").First(l => l.StartsWith("Uid:", StringComparison.Ordinal)).Split('\t')[1]);
        Assert.False(Listeners.BelongTo(port, self));
        socket.Listen();
        Assert.True(Listeners.BelongTo(port, self));
        Assert.Equal(self == 0, Listeners.BelongTo(port, self + 1));
    }
}
