using Pandora.Agent.Protocol.Channel;
using Pandora.Fakes;

namespace Pandora.Tests.Guests;

/// <content>Agents that send what cannot be, or too much.</content>
public sealed partial class ChannelConnectionTests
{
    [Theory]
    [InlineData("beyond the window")]
    [InlineData("behind a gap")]
    [InlineData("unknown kind")]
    [InlineData("open")]
    [InlineData("welcome twice")]
    [InlineData("taken too much")]
    [InlineData("ended")]
    [InlineData("after the end")]
    public async Task A_hostile_agent_loses_its_streams_and_the_next_epoch_begins(string what)
    {
        var epoch = 0ul;
        _agent.Hostile = frame =>
        {
            if (frame.Kind == FrameKind.Hello)
            {
                epoch = frame.Epoch;
                _agent.Send(new ChannelFrame(FrameKind.Welcome, epoch, 0, 0, new ChannelHello(0, 0, []).Encode()));
            }
        };
        await using var connection = Connect(out _);
        var stream = await connection.OpenAsync("x"u8.ToArray(), default);
        await FakeNode.UntilAsync(() => stream.IsSent);
        var reading = ReadAsync(stream, 300_000);
        var before = epoch;
        switch (what)
        {
            case "beyond the window":
                // The reader takes some: more than two windows at once are too many however fast it is.
                stream = await connection.OpenAsync("unread"u8.ToArray(), default);
                await FakeNode.UntilAsync(() => stream.IsSent);
                for (var i = 0; i < 9; i++)
                {
                    Send(FrameKind.Data, 2, (ulong)i * 32 * 1024, new byte[32 * 1024]);
                }

                break;
            case "behind a gap":
                Send(FrameKind.Data, 1, 1, "x"u8.ToArray());
                break;
            case "unknown kind":
                Send((FrameKind)77, 1, 0, []);
                break;
            case "open":
                Send(FrameKind.Open, 5, 0, []);
                break;
            case "welcome twice":
                Send(FrameKind.Welcome, 0, 0, new ChannelHello(0, 0, []).Encode());
                break;
            case "taken too much":
                Send(FrameKind.Taken, 1, 1, []);
                break;
            case "ended":
                Send(FrameKind.Ended, 1, 0, []);
                break;
            default:
                Send(FrameKind.End, 1, 0, []);
                Send(FrameKind.Data, 1, 0, "x"u8.ToArray());
                break;
        }

        void Send(FrameKind kind, uint id, ulong offset, byte[] body) =>
            _agent.Send(new ChannelFrame(kind, epoch, id, offset, body));

        var error = await Assert.ThrowsAsync<IOException>(() => reading.WaitAsync(Patience));
        if (what != "after the end")
        {
            Assert.Equal("the guest's agent sent what cannot be", error.Message);
        }

        await FakeNode.UntilAsync(() => epoch != before);
        await connection.WaitAsync(default).WaitAsync(Patience);
        var next = await connection.OpenAsync("next"u8.ToArray(), default);
        await FakeNode.UntilAsync(() => next.IsSent);
    }

    [Theory]
    [InlineData("garbage")]
    [InlineData("other epochs")]
    [InlineData("empty data")]
    public async Task A_flood_of_what_is_no_part_of_a_stream_is_read_slowly(string what)
    {
        await Task.Run(async () =>
        {
            var epoch = 0ul;
            _agent.Hostile = frame => epoch = frame.Kind == FrameKind.Hello ? frame.Epoch : epoch;
            await using var connection = Connect(out var wire);
            _agent.Send(new ChannelFrame(FrameKind.Welcome, epoch, 0, 0, new ChannelHello(0, 0, []).Encode()));
            var stream = await connection.OpenAsync("x"u8.ToArray(), default);
            await FakeNode.UntilAsync(() => stream.IsSent);
            var frame = what switch
            {
                "garbage" => new ChannelFrame(0, 0, 0, 0, default),
                "other epochs" => new ChannelFrame(FrameKind.Data, epoch + 1, 1, 0, new byte[100]),
                _ => new ChannelFrame(FrameKind.Data, epoch, 1, 0, default),
            };
            var bytes = new byte[frame.Size];
            frame.Write(bytes);
            bytes[0] = what == "garbage" ? (byte)'X' : bytes[0];
            wire.Flood = [.. Enumerable.Repeat(bytes, 60_000 / bytes.Length).SelectMany(b => b)];
            wire.Deliver(default(ReadOnlyMemory<byte>));
            await FakeNode.UntilAsync(() => _time.Timers == 1);
            // Each read may be of one buffer, and each is followed by a pause of the clock, which stands still.
            var buffer = 2L * ChannelFrame.MaxSize;
            Assert.InRange(wire.Taken, 256 * 1024, (256 * 1024) + (3 * buffer));
            var taken = wire.Taken;
            _time.Advance(TimeSpan.FromMilliseconds(100));
            await FakeNode.UntilAsync(() => _time.Timers == 2);
            Assert.InRange(wire.Taken - taken, 1, 2 * buffer);
            output.WriteLine($"{wire.Taken} bytes");
        });
    }
}
