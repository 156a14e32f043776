using System.Net;
using System.Net.Sockets;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Ports;

namespace Pandora.Tests.Ports;

/// <summary>The agent connects to programs: real listeners of this machine.</summary>
public sealed class AgentConnectTests : IAsyncDisposable
{
    private readonly PortTalk _talk = new();

    public ValueTask DisposeAsync() => _talk.DisposeAsync();

    [Theory]
    [InlineData("127.0.0.1")]
    [InlineData("0.0.0.0")]
    [InlineData("::1")]
    [InlineData("::")]
    [InlineData("127.0.0.2")]
    [InlineData("::ffff:127.0.0.3")]
    public async Task A_program_is_reached_at_any_own_address(string address)
    {
        Assert.SkipUnless(!address.Contains(':') || Socket.OSSupportsIPv6, "this machine has no IPv6");
        using var listener = Listen(IPAddress.Parse(address));
        var wire = await _talk.ConnectAsync(PortOf(listener));
        using var program = await listener.AcceptAsync();
        await wire.SendAsync(PortMessage.Write, "to the program"u8.ToArray());
        var bytes = new byte[100];
        Assert.Equal(14, await program.ReceiveAsync(bytes));
        await program.SendAsync("from the program"u8.ToArray());
        Assert.Equal("from the program"u8.ToArray(), await wire.ExpectAsync(PortMessage.Read));
        wire.Close();
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_port_on_which_nobody_listens_is_closed()
    {
        // Bound, so that no other test can listen on it.
        using var silent = new Socket(SocketType.Stream, ProtocolType.Tcp);
        silent.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        var port = PortOf(silent);
        var wire = await _talk.AskAsync(port);
        var failure = await wire.ExpectFailureAsync(PortFailureKind.Closed);
        Assert.Equal($"no program listens on port {port}", failure.Reason);
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_program_that_accepts_nothing_is_given_up_in_time()
    {
        await using var talk = new PortTalk(loop => new GuestPorts(loop, PortTalk.NoSsh(loop)) { ConnectMilliseconds = 300 });
        using var listener = Listen(IPAddress.Loopback, backlog: 0);
        // The kernel takes one more than the queue has room for.
        using var first = new TcpClient();
        await first.ConnectAsync((IPEndPoint)listener.LocalEndPoint!);
        var wires = new List<PortWire>();
        for (var i = 0; i < 3; i++)
        {
            wires.Add(await talk.AskAsync(PortOf(listener)));
        }

        var failure = await wires[^1].ExpectFailureAsync(PortFailureKind.Timeout);
        Assert.Contains("accepted no connection for 300 ms", failure.Reason, StringComparison.Ordinal);
        wires.ForEach(w => w.Close());
        await talk.WaitUntilIdleAsync();
    }

    [Fact]
    public async Task A_stream_that_is_closed_while_it_connects_leaves_nothing()
    {
        using var listener = Listen(IPAddress.Loopback, backlog: 0);
        using var first = new TcpClient();
        await first.ConnectAsync((IPEndPoint)listener.LocalEndPoint!);
        var wires = new List<PortWire>();
        for (var i = 0; i < 5; i++)
        {
            wires.Add(await _talk.AskAsync(PortOf(listener)));
        }

        await PortTalk.WaitUntilAsync(() => PortTalk.IsProgram || _talk.Ports.Connections == 5);
        wires.ForEach(w => w.Close());
        await _talk.WaitUntilIdleAsync();
    }

    [Fact]
    public void A_socket_that_is_connected_to_itself_is_known()
    {
        // What the kernel does when it picks the very port that is connected to.
        using var self = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        self.Bind(new IPEndPoint(IPAddress.Loopback, 0));
        self.Connect((IPEndPoint)self.LocalEndPoint!);
        Assert.True(Agent.Linux.IsConnected((int)self.Handle, out var isToItself));
        Assert.True(isToItself);
        using var listener = Listen(IPAddress.Loopback);
        using var other = new TcpClient();
        other.Connect((IPEndPoint)listener.LocalEndPoint!);
        Assert.True(Agent.Linux.IsConnected((int)other.Client.Handle, out isToItself));
        Assert.False(isToItself);
        Assert.False(Agent.Linux.IsConnected((int)listener.Handle, out _));
    }

    [Fact]
    public async Task More_connections_than_may_be_are_refused_and_those_that_end_make_room()
    {
        using var listener = Listen(IPAddress.Loopback, backlog: 2000);
        var wires = new List<PortWire>();
        for (var i = 0; i < PortMessages.MaxConnections; i++)
        {
            wires.Add(await _talk.ConnectAsync(PortOf(listener)));
        }

        await (await _talk.AskAsync(PortOf(listener))).ExpectFailureAsync(PortFailureKind.TooMany);
        wires[0].Close();
        await PortTalk.WaitUntilAsync(() => PortTalk.IsProgram || _talk.Ports.Connections < PortMessages.MaxConnections);
        wires.Add(await _talk.ConnectAsync(PortOf(listener)));
        wires.ForEach(w => w.Close());
        await _talk.WaitUntilIdleAsync();
    }

    internal static int PortOf(Socket listener) => ((IPEndPoint)listener.LocalEndPoint!).Port;

    internal static Socket Listen(IPAddress address, int backlog = 10)
    {
        var listener = new Socket(address.AddressFamily, SocketType.Stream, ProtocolType.Tcp);
        if (address.AddressFamily == AddressFamily.InterNetworkV6)
        {
            listener.DualMode = address.IsIPv4MappedToIPv6;
        }

        listener.Bind(new IPEndPoint(address, 0));
        listener.Listen(backlog);
        return listener;
    }
}
