using System.Text;
using Microsoft.Extensions.Time.Testing;
using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;
using Pandora.Engine.Guests.Agent;
using Pandora.Fakes;

namespace Pandora.Tests.Guests;

/// <summary>Connections to ports of a guest, over an agent that does what a test says.</summary>
public sealed partial class AgentPortsTests
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(1);
    private readonly FakeTimeProvider _time = new();

    [Fact]
    public async Task Bytes_go_both_ways_and_each_direction_has_its_end()
    {
        var (guest, connection) = Guest((stream, kind, body) =>
        {
            switch ((PortMessage)kind)
            {
                case PortMessage.Connect:
                    Assert.Equal(80, ConnectRequest.Decode(body).Port);
                    Send(stream, PortMessage.Opened);
                    break;
                case PortMessage.Write:
                    Send(stream, PortMessage.Read, body);
                    break;
                case PortMessage.EndWrite:
                    Send(stream, PortMessage.EndRead);
                    break;
            }
        });
        await using var port = await guest.ConnectAsync(80, default);
        await port.WriteAsync("hello"u8.ToArray());
        var buffer = new byte[3];
        // It waits, and takes nothing.
        Assert.Equal(0, await port.ReadAsync(Memory<byte>.Empty));
        Assert.Equal((3, "hel"), (await port.ReadAsync(buffer), Encoding.ASCII.GetString(buffer)));
        Assert.Equal(2, await port.ReadAsync(buffer));
        await port.EndWriteAsync(default);
        await port.EndWriteAsync(default);
        Assert.Equal((0, 0), (await port.ReadAsync(buffer), await port.ReadAsync(buffer)));
        await Assert.ThrowsAsync<IOException>(() => port.WriteAsync("x"u8.ToArray()).AsTask());
        Assert.Equal(
            [PortMessage.Connect, PortMessage.Write, PortMessage.EndWrite], connection.Last.Received.Select(k => (PortMessage)k));
    }

    [Theory]
    [InlineData("the agent ends the stream")]
    [InlineData("the agent does not")]
    [InlineData("the program has not ended")]
    [InlineData("the client has not ended")]
    public async Task What_was_written_is_delivered_after_both_have_ended(string what)
    {
        var (guest, connection) = Opened(_ => { });
        var port = await guest.ConnectAsync(1, default);
        await port.WriteAsync(new byte[10]);
        if (what != "the client has not ended")
        {
            await port.EndWriteAsync(default);
        }

        if (what != "the program has not ended")
        {
            Send(connection.Last, PortMessage.EndRead);
            Assert.Equal(0, await port.ReadAsync(new byte[1]));
        }

        await port.DisposeAsync();
        if (what.StartsWith("the agent", StringComparison.Ordinal))
        {
            Assert.False(connection.Last.IsClosed);
            if (what == "the agent does not")
            {
                _time.Advance(AgentPortStream.DeliveryLimit);
            }
            else
            {
                connection.Last.End();
            }

            await FakeNode.UntilAsync(() => connection.Last.IsClosed);
        }

        Assert.True(connection.Last.IsClosed);
    }

    [Fact]
    public async Task A_long_write_is_cut_into_messages_that_the_agent_takes()
    {
        List<byte> received = [];
        var (guest, connection) = Guest((stream, kind, body) =>
        {
            Assert.True(body.Length <= PortMessages.MaxBody);
            if ((PortMessage)kind == PortMessage.Ssh)
            {
                Assert.Equal(["a key", "b key"], SshRequest.Decode(body).Keys);
                Send(stream, PortMessage.Opened);
            }
            else
            {
                received.AddRange(body);
            }
        });
        await using var port = await guest.OpenSshAsync(["a key", "b key"], default);
        var bytes = new byte[200_000];
        Random.Shared.NextBytes(bytes);
        await port.WriteAsync(bytes);
        await port.WriteAsync(Array.Empty<byte>());
        Assert.Equal(bytes, received);
        Assert.DoesNotContain(connection.Last.Received, k => (PortMessage)k == PortMessage.EndWrite);
    }

    [Theory]
    [InlineData(PortFailureKind.Closed, PandoraError.PortClosed)]
    [InlineData(PortFailureKind.Timeout, PandoraError.PortTimeout)]
    [InlineData(PortFailureKind.Guest, PandoraError.PortClosed)]
    [InlineData(PortFailureKind.TooMany, PandoraError.TooManyConnections)]
    [InlineData(PortFailureKind.NoSshServer, PandoraError.SshUnsupported)]
    [InlineData(PortFailureKind.Protocol, PandoraError.GuestUnreachable)]
    [InlineData((PortFailureKind)77, PandoraError.GuestUnreachable)]
    internal async Task A_refusal_has_its_code_and_a_printable_reason(PortFailureKind kind, PandoraError error)
    {
        var (guest, connection) = Guest((stream, _, _) =>
            Send(stream, PortMessage.Failed, new PortFailure(kind, "no\u001b[31m!" + new string('x', 5000)).Encode()));
        var failure = await Assert.ThrowsAsync<PandoraException>(() => guest.ConnectAsync(1, default));
        Assert.Equal(error, failure.Error);
        Assert.Contains("no.[31m!", failure.Message);
        Assert.True(failure.Message.Length < 500);
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public async Task An_agent_that_knows_no_ports_is_said_to_be_too_old(bool knowsFiles)
    {
        var (guest, connection) = Guest((stream, _, _) =>
        {
            stream.Send(
                knowsFiles ? (ProcessMessage)FileMessage.Failed : ProcessMessage.Failed,
                knowsFiles
                    ? new FileFailure(FileFailureKind.Protocol, "a message 97 that cannot come here").Encode()
                    : new FailureReport(FailureKind.Guest, "what?").Encode());
            stream.End();
        });
        foreach (var ask in Requests(guest))
        {
            Assert.Equal(PandoraError.PortsUnsupported, (await Assert.ThrowsAsync<PandoraException>(ask)).Error);
            Assert.True(connection.Last.IsClosed);
        }
    }

    [Fact]
    public async Task A_program_that_breaks_its_connection_is_no_lost_agent()
    {
        var (guest, _) = Opened(stream =>
        {
            Send(stream, PortMessage.Read, [1]);
            Send(stream, PortMessage.Failed, new PortFailure(PortFailureKind.Guest, "connection reset").Encode());
            stream.End();
        });
        await using var port = await guest.ConnectAsync(1, default);
        Assert.Equal(1, await port.ReadAsync(new byte[10]));
        for (var i = 0; i < 2; i++)
        {
            var failure = await Assert.ThrowsAnyAsync<IOException>(() => port.ReadAsync(new byte[10]).AsTask());
            Assert.Equal(("connection reset", null), (failure.Message, failure.InnerException));
        }
    }

    [Fact]
    public async Task A_write_does_not_wait_for_a_program_that_has_ended_and_is_gone()
    {
        ScriptedStream? opened = null;
        var (guest, _) = Opened(stream =>
        {
            opened = stream;
            Send(stream, PortMessage.EndRead);
        });
        await using var port = await guest.ConnectAsync(1, default);
        Assert.Equal(0, await port.ReadAsync(new byte[10]));
        await port.WriteAsync(new byte[10]);
        Send(opened!, PortMessage.Failed, new PortFailure(PortFailureKind.Guest, "broken pipe").Encode());
        await FakeNode.UntilAsync(() => opened!.IsClosed);
        Assert.Equal("broken pipe", (await Assert.ThrowsAnyAsync<IOException>(() => port.WriteAsync(new byte[10]).AsTask())).Message);
    }

    [Fact]
    public async Task A_read_that_is_cancelled_within_a_message_loses_nothing()
    {
        ScriptedStream? opened = null;
        var (guest, _) = Opened(stream => opened = stream);
        await using var port = await guest.ConnectAsync(1, default);
        var message = PortMessages.Encode(PortMessage.Read, "abcd"u8);
        foreach (var part in message.Chunk(3))
        {
            using var stop = new CancellationTokenSource();
            var reading = port.ReadAsync(Memory<byte>.Empty, stop.Token).AsTask();
            opened!.SendRaw(part);
            if (part == message.Chunk(3).Last())
            {
                await reading;
                break;
            }

            await stop.CancelAsync();
            await ((Task)reading).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }

        var bytes = new byte[4];
        await port.ReadExactlyAsync(bytes);
        Assert.Equal("abcd", Encoding.ASCII.GetString(bytes));
    }

    [Fact]
    public async Task Nothing_follows_a_write_that_was_cut_off()
    {
        var (guest, connection) = Opened(_ => { });
        await using var port = await guest.ConnectAsync(1, default);
        connection.Last.Room = 3;
        using var stop = new CancellationTokenSource();
        var writing = port.WriteAsync(new byte[100], stop.Token).AsTask();
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => writing);
        connection.Last.Room = int.MaxValue;
        await Assert.ThrowsAsync<IOException>(() => port.WriteAsync(new byte[1]).AsTask());
        await Assert.ThrowsAsync<IOException>(() => port.EndWriteAsync(default).AsTask());
        Assert.Equal([PortMessage.Connect], connection.Last.Received.Select(k => (PortMessage)k));
    }

    [Fact]
    public async Task A_silent_agent_is_waited_for_ten_seconds()
    {
        var (guest, connection) = Guest((_, _, _) => { });
        foreach (var ask in Requests(guest))
        {
            var asking = ask();
            _time.Advance(TimeSpan.FromSeconds(9));
            Assert.False(asking.IsCompleted);
            _time.Advance(TimeSpan.FromSeconds(2));
            var failure = await Assert.ThrowsAsync<PandoraException>(() => asking.WaitAsync(Patience, TimeProvider.System));
            Assert.Equal(PandoraError.GuestUnreachable, failure.Error);
            Assert.True(connection.Last.IsClosed);
        }
    }

    [Fact]
    public async Task A_client_that_stops_waiting_closes_the_stream()
    {
        var (guest, connection) = Guest((_, _, _) => { });
        using var stop = new CancellationTokenSource();
        var asking = guest.ConnectAsync(1, stop.Token);
        await stop.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asking);
        Assert.True(connection.Last.IsClosed);
    }

    [Fact]
    public async Task What_listens_is_listed()
    {
        var (guest, connection) = Guest((stream, kind, _) =>
        {
            Assert.Equal(PortMessage.List, (PortMessage)kind);
            Send(stream, PortMessage.Entry, new PortEntry(80, [127, 0, 0, 1], 7, "nginx\n" + new string('x', 500)).Encode());
            Send(stream, PortMessage.Entry, new PortEntry(81, new byte[16], 0, "").Encode());
            Send(stream, PortMessage.Done);
        });
        var ports = await guest.ListPortsAsync(default);
        Assert.Equal([(80, "127.0.0.1", 7), (81, "::", null)], ports.Select(p => (p.Port, $"{p.Address}", p.Pid)));
        Assert.Equal((64, null), (ports[0].Program!.Length, ports[1].Program));
        Assert.StartsWith("nginx.x", ports[0].Program);
        Assert.True(connection.Last.IsClosed);
    }

    [Theory]
    [InlineData(1024, true)]
    [InlineData(1025, false)]
    public async Task A_list_of_ports_has_a_bound(int count, bool isRead)
    {
        var (guest, _) = Guest((stream, _, _) =>
        {
            for (var i = 1; i <= count; i++)
            {
                Send(stream, PortMessage.Entry, new PortEntry(i, new byte[4], 0, "").Encode());
            }

            Send(stream, PortMessage.Done);
        });
        var listing = guest.ListPortsAsync(default);
        if (isRead)
        {
            Assert.Equal(count, (await listing).Count);
        }
        else
        {
            Assert.Equal(PandoraError.GuestUnreachable, (await Assert.ThrowsAsync<PandoraException>(() => listing)).Error);
        }
    }

    private static void Send(ScriptedStream stream, PortMessage kind, params byte[] body) => stream.Send((ProcessMessage)kind, body);

    private static IEnumerable<Func<Task>> Requests(AgentGuest guest) =>
        [() => guest.ConnectAsync(1, default), () => guest.OpenSshAsync([], default), () => guest.ListPortsAsync(default)];

    private (AgentGuest Guest, ScriptedConnection Connection) Opened(Action<ScriptedStream> then) => Guest((stream, kind, _) =>
    {
        if ((PortMessage)kind == PortMessage.Connect)
        {
            Send(stream, PortMessage.Opened);
            then(stream);
        }
    });

    private (AgentGuest Guest, ScriptedConnection Connection) Guest(Action<ScriptedStream, ProcessMessage, byte[]> answer)
    {
        var connection = new ScriptedConnection(answer);
        return (new AgentGuest(connection, ExecWay.Agent, _time), connection);
    }
}
