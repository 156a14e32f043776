using System.Net;
using System.Net.Sockets;
using System.Text;
using Pandora.Agent.Ports;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Tests.Ports;

/// <summary>The agent lists what listens, with the programs.</summary>
public sealed class AgentListTests
{
    [Fact]
    public async Task What_listens_is_listed_with_its_program_and_what_is_connected_is_not()
    {
        await using var talk = new PortTalk();
        using var one = AgentConnectTests.Listen(IPAddress.Parse("127.0.0.2"));
        using var every = AgentConnectTests.Listen(IPAddress.Any);
        using var client = new TcpClient();
        await client.ConnectAsync((IPEndPoint)one.LocalEndPoint!);
        var entries = await ListAsync(talk);
        var name = File.ReadAllText("/proc/self/comm").TrimEnd();
        var found = Assert.Single(entries, e => IsAt(e, one, 127, 0, 0, 2));
        Assert.Equal((Environment.ProcessId, name), (found.Pid, found.Program));
        found = Assert.Single(entries, e => IsAt(e, every, 0, 0, 0, 0));
        Assert.Equal((Environment.ProcessId, name), (found.Pid, found.Program));
        Assert.DoesNotContain(entries, e => e.Port == ((IPEndPoint)client.Client.LocalEndPoint!).Port);
        Assert.Equal(entries.OrderBy(e => e.Port).Select(e => e.Port), entries.Select(e => e.Port));
    }

    [Fact]
    public async Task Addresses_of_IPv6_are_listed()
    {
        Assert.SkipUnless(Socket.OSSupportsIPv6, "this machine has no IPv6");
        await using var talk = new PortTalk();
        using var loopback = AgentConnectTests.Listen(IPAddress.IPv6Loopback);
        using var mapped = AgentConnectTests.Listen(IPAddress.Parse("::ffff:127.0.0.3"));
        var entries = await ListAsync(talk);
        Assert.Single(entries, e => IsAt(e, loopback, IPAddress.IPv6Loopback.GetAddressBytes()));
        Assert.Single(entries, e => IsAt(e, mapped, 127, 0, 0, 3));
    }

    [Fact]
    public async Task More_lists_than_may_be_made_at_once_are_refused()
    {
        using var isAllowed = new ManualResetEventSlim();
        await using var talk = new PortTalk(loop => new GuestPorts(loop, PortTalk.NoSsh(loop))
        {
            MakeList = () =>
            {
                isAllowed.Wait(TimeSpan.FromSeconds(30));
                return PortMessages.Encode(PortMessage.Done, []);
            },
        });
        var wires = new List<PortWire>();
        for (var i = 0; i < GuestPorts.MostLists; i++)
        {
            wires.Add(await talk.AskAsync(PortMessage.List, []));
        }

        await (await talk.AskAsync(PortMessage.List, [])).ExpectFailureAsync(PortFailureKind.TooMany);
        isAllowed.Set();
        foreach (var wire in wires)
        {
            await wire.ExpectAsync(PortMessage.Done);
            Assert.Null(await wire.ReadAsync());
        }

        await (await talk.AskAsync(PortMessage.List, [])).ExpectAsync(PortMessage.Done);
    }

    [Fact]
    public void A_list_has_a_bound_and_one_entry_for_sockets_that_share_an_address()
    {
        var sockets = Enumerable.Range(1, 3000)
            .SelectMany(port => new[] { port, port + 5000 }.Select(inode => new ListeningSocket(port, [127, 0, 0, 1], (ulong)inode)))
            .ToList();
        var entries = Decode(PortList.Make(sockets, _ => []));
        Assert.Equal(Enumerable.Range(1, PortMessages.MaxListed), entries.Select(e => e.Port));
        Assert.All(entries, e => Assert.Equal((0, ""), (e.Pid, e.Program)));
    }

    [Theory]
    [InlineData("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1", "127.0.0.1", 8080)]
    [InlineData("   1: 00000000:FFFF 00000000:0000 0A 0:0 0:0 0 0 0 12345", "0.0.0.0", 65535)]
    [InlineData("   2: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 0:0 0:0 0 0 0 12345 1", "::1", 22)]
    [InlineData("   3: 0000000000000000FFFF00000200007F:0050 00:0000 0A 0:0 0:0 0 0 0 12345", "127.0.0.2", 80)]
    [InlineData("   4: 0100007F:1F90 0100007F:1F91 01 00000000:00000000 00:00000000 00000000  1000        0 12345 1", null, 0)]
    [InlineData("   5: 0100007F:0000 00000000:0000 0A 0:0 0:0 0 0 0 12345", null, 0)]
    [InlineData("  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", null, 0)]
    [InlineData("   6: 0100007G:1F90 00000000:0000 0A 0:0 0:0 0 0 0 12345", null, 0)]
    [InlineData("", null, 0)]
    public void A_line_of_the_kernel_is_read(string line, string? address, int port)
    {
        var socket = ListeningSocket.Parse(line);
        Assert.Equal(address, socket is null ? null : new IPAddress(socket.Value.Address).ToString());
        Assert.Equal(port, socket?.Port ?? 0);
        Assert.Equal(address is null ? 0ul : 12345ul, socket?.Inode ?? 0);
    }

    [Fact]
    public void The_name_of_a_program_is_printable() =>
        Assert.Equal("a?b?c?dé", SocketOwners.Clean(Encoding.UTF8.GetBytes("a\nb\u001bc\u202edé")));

    // Another test may listen on the same port of another address.
    private static bool IsAt(PortEntry entry, Socket listener, params byte[] address) =>
        entry.Port == AgentConnectTests.PortOf(listener) && entry.Address.SequenceEqual(address);

    private static async Task<List<PortEntry>> ListAsync(PortTalk talk)
    {
        var wire = await talk.AskAsync(PortMessage.List, []);
        List<PortEntry> entries = [];
        while (await wire.ReadAsync() is { Kind: PortMessage.Entry } message)
        {
            entries.Add(PortEntry.Decode(message.Body));
        }

        Assert.Null(await wire.ReadAsync());
        return entries;
    }

    private static List<PortEntry> Decode(byte[] messages)
    {
        var parser = new MessageParser(PortMessages.MaxBody);
        List<PortEntry> entries = [];
        for (var at = 0; at < messages.Length;)
        {
            var room = parser.Room.Span;
            var count = Math.Min(room.Length, messages.Length - at);
            messages.AsSpan(at, count).CopyTo(room);
            parser.Received(count);
            at += count;
            while (parser.TryRead(out var kind, out var body))
            {
                if ((PortMessage)kind == PortMessage.Entry)
                {
                    entries.Add(PortEntry.Decode(body.Span));
                }
            }
        }

        return entries;
    }
}
