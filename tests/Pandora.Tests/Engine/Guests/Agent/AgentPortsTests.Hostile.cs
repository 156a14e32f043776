using Pandora.Agent.Protocol.Ports;
using Pandora.Agent.Protocol.Processes;
using Pandora.Engine;

namespace Pandora.Tests.Guests;

/// <content>An agent that sends what cannot be.</content>
public sealed partial class AgentPortsTests
{
    [Theory]
    [InlineData("nothing")]
    [InlineData("a cut header")]
    [InlineData("a cut body")]
    [InlineData("a negative length")]
    [InlineData("a hostile length")]
    [InlineData("another message")]
    [InlineData("an opened with a body")]
    [InlineData("a failure that is none")]
    [InlineData("a break")]
    [InlineData("no stream")]
    public async Task An_answer_that_cannot_be_is_an_unreachable_guest(string what)
    {
        var (guest, connection) = Guest((stream, _, _) => Misbehave(stream, what));
        connection.Refusal = what == "no stream" ? "too many streams" : null;
        foreach (var ask in Requests(guest))
        {
            var failure = await Assert.ThrowsAsync<PandoraException>(() => ask().WaitAsync(Patience, TimeProvider.System));
            Assert.Equal(PandoraError.GuestUnreachable, failure.Error);
            Assert.All(connection.Streams, s => Assert.True(s.IsClosed));
        }
    }

    [Theory]
    [InlineData("nothing")]
    [InlineData("a cut header")]
    [InlineData("a cut body")]
    [InlineData("a negative length")]
    [InlineData("a hostile length")]
    [InlineData("an empty read")]
    [InlineData("another message")]
    [InlineData("an end with a body")]
    [InlineData("a failure that is none")]
    [InlineData("a break")]
    public async Task What_cannot_be_on_an_open_connection_is_a_lost_agent_and_stays_one(string what)
    {
        var (guest, _) = Guest((stream, kind, _) =>
        {
            if ((PortMessage)kind == PortMessage.Connect)
            {
                Send(stream, PortMessage.Opened);
                Misbehave(stream, what);
            }
        });
        await using var port = await guest.ConnectAsync(1, default);
        for (var i = 0; i < 2; i++)
        {
            var failure = await Assert.ThrowsAnyAsync<IOException>(
                () => port.ReadExactlyAsync(new byte[10]).AsTask().WaitAsync(Patience, TimeProvider.System));
            Assert.Equal(PandoraError.GuestUnreachable, Assert.IsType<PandoraException>(failure.InnerException).Error);
        }
    }

    private static void Misbehave(ScriptedStream stream, string what)
    {
        switch (what)
        {
            case "nothing":
                stream.End();
                break;
            case "a cut header":
                stream.SendRaw([1, 0]);
                stream.End();
                break;
            case "a cut body":
                stream.SendRaw([9, 0, 0, 0, (byte)PortMessage.Read, 1]);
                stream.End();
                break;
            case "a negative length":
                stream.SendRaw([0xFF, 0xFF, 0xFF, 0xFF, (byte)PortMessage.Read]);
                break;
            case "a hostile length":
                stream.SendRaw([0, 0, 0, 0x7F, (byte)PortMessage.Failed]);
                break;
            case "an empty read":
                Send(stream, PortMessage.Read);
                break;
            case "another message":
                stream.Send(ProcessMessage.Output, 1, 2, 3);
                break;
            case "an opened with a body":
                Send(stream, PortMessage.Opened, [1]);
                break;
            case "an end with a body":
                Send(stream, PortMessage.EndRead, [1]);
                break;
            case "a failure that is none":
                Send(stream, PortMessage.Failed, [1, 2, 3]);
                break;
            case "a break":
                stream.Fail("it broke");
                break;
        }
    }
}
