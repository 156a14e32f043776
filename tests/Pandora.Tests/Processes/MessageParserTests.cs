using System.Buffers.Binary;
using CsCheck;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Tests.Processes;

/// <summary>Messages on a stream, however it is cut.</summary>
public sealed class MessageParserTests
{
    private const int Limit = 10_000;

    [Fact]
    public void Messages_are_found_wherever_the_bytes_are_cut() =>
        Gen.Select(Gen.Byte, Gen.Byte.Array[0, 300]).Array[1, 8].SelectMany(
            messages => Gen.Int[1, 40].Array[1, 20].Select(cuts => (messages, cuts)))
        .Sample((messages, cuts) =>
        {
            var parser = new MessageParser(Limit);
            var bytes = messages.SelectMany(m => ProcessMessages.Encode((ProcessMessage)m.Item1, m.Item2)).ToArray();
            List<(byte, byte[])> read = [];
            for (var (at, cut) = (0, 0); at < bytes.Length; cut++)
            {
                Feed(parser, bytes.AsSpan(at, Math.Min(cuts[cut % cuts.Length], bytes.Length - at)), ref at);
                while (parser.TryRead(out var kind, out var body))
                {
                    read.Add(((byte)kind, body.ToArray()));
                    parser.Shrink();
                }
            }

            Assert.Equal(messages.Length, read.Count);
            for (var i = 0; i < read.Count; i++)
            {
                Assert.Equal(messages[i].Item1, read[i].Item1);
                Assert.Equal(messages[i].Item2, read[i].Item2);
            }
        });

    [Fact]
    public void A_message_comes_when_its_last_byte_has_come_and_not_before()
    {
        var message = ProcessMessages.Encode(ProcessMessage.Output, new byte[50]);
        for (var cut = 0; cut < message.Length; cut++)
        {
            var (parser, at) = (new MessageParser(Limit), 0);
            Feed(parser, message.AsSpan(0, cut), ref at);
            Assert.False(parser.TryRead(out _, out _));
            Feed(parser, message.AsSpan(cut), ref at);
            Assert.True(parser.TryRead(out var kind, out var body));
            Assert.Equal((ProcessMessage.Output, 50), (kind, body.Length));
            Assert.False(parser.TryRead(out _, out _));
        }
    }

    [Theory]
    [InlineData(Limit, true)]
    [InlineData(Limit + 1, false)]
    [InlineData(int.MaxValue, false)]
    [InlineData(-1, false)]
    [InlineData(int.MinValue, false)]
    public void A_length_is_checked_before_its_memory_is_taken(int length, bool isGood)
    {
        var (parser, at) = (new MessageParser(Limit), 0);
        var header = new byte[5];
        BinaryPrimitives.WriteInt32LittleEndian(header, length);
        Feed(parser, header, ref at);
        if (isGood)
        {
            Assert.False(parser.TryRead(out _, out _));
            Assert.True(parser.Room.Length >= length);
        }
        else
        {
            Assert.Throws<FormatException>(() => parser.TryRead(out _, out _));
            Assert.InRange(parser.Room.Length, 0, 2 * Limit);
        }
    }

    [Fact]
    public void A_large_message_is_given_back_and_room_is_always_there()
    {
        var (parser, at) = (new MessageParser(1_000_000), 0);
        Feed(parser, ProcessMessages.Encode(ProcessMessage.Start, new byte[900_000]), ref at);
        Assert.True(parser.TryRead(out _, out _));
        parser.Shrink();
        Assert.InRange(parser.Room.Length, 1, 5000);
        for (var i = 0; i < 3000; i++)
        {
            Feed(parser, ProcessMessages.Encode(ProcessMessage.Input, new byte[3]), ref at);
            Assert.True(parser.TryRead(out _, out _));
        }

        Assert.InRange(parser.Room.Length, 1, 5000);
    }

    private static void Feed(MessageParser parser, ReadOnlySpan<byte> bytes, ref int at)
    {
        at += bytes.Length;
        while (!bytes.IsEmpty)
        {
            var room = parser.Room.Span;
            Assert.False(room.IsEmpty);
            var count = Math.Min(room.Length, bytes.Length);
            bytes[..count].CopyTo(room);
            parser.Received(count);
            bytes = bytes[count..];
        }
    }
}
