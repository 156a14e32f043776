using Pandora.Agent.Protocol.Channel;

namespace Pandora.Tests.Channel;

/// <summary>Frames are found in any sequence of bytes.</summary>
public sealed class FrameReaderTests
{
    private static readonly ChannelFrame One = new(FrameKind.Data, 0x1122334455667788, 7, 1_000_000, "the body of one"u8.ToArray());
    private static readonly ChannelFrame Two = new(FrameKind.Taken, 0x1122334455667788, 9, 5, default);

    [Fact]
    public void Frames_are_read_however_they_are_split()
    {
        var wire = Concat(Wire(One), Wire(Two), Wire(One));
        for (var split = 1; split < wire.Length; split++)
        {
            var reader = new FrameReader();
            List<string> read = [.. Feed(reader, wire.AsSpan(0, split)), .. Feed(reader, wire.AsSpan(split))];
            Assert.Equal([Text(One), Text(Two), Text(One)], read);
            Assert.Equal(0, reader.Skipped);
        }
    }

    [Fact]
    public void After_a_cut_at_any_byte_the_next_connections_frames_are_read()
    {
        var largest = new ChannelFrame(FrameKind.Data, 1, 1, 0, new byte[ChannelFrame.MaxBody]);
        foreach (var frame in new[] { One, Two, largest })
        {
            var wire = Wire(frame);
            var step = wire.Length > 1000 ? 997 : 1;
            for (var cut = 0; cut < wire.Length; cut += step)
            {
                var reader = new FrameReader();
                Assert.Empty(Feed(reader, wire.AsSpan(0, cut)));
                Assert.Equal([Text(Two), Text(One)], Feed(reader, Concat(FrameReader.Padding.ToArray(), Wire(Two), Wire(One))));
            }
        }
    }

    [Fact]
    public void A_changed_byte_of_the_header_or_the_end_loses_that_frame_only()
    {
        var wire = Wire(One);
        foreach (var at in Enumerable.Range(0, ChannelFrame.HeaderSize).Append(wire.Length - 1))
        {
            var changed = (byte[])wire.Clone();
            changed[at] ^= 0x40;
            var read = Feed(new FrameReader(), Concat(changed, FrameReader.Padding.ToArray(), Wire(Two)));
            Assert.Equal([Text(Two)], read);
        }
    }

    [Fact]
    public void Random_bytes_are_no_frames_and_break_nothing()
    {
        var random = new Random(1);
        var reader = new FrameReader();
        var bytes = new byte[200_000];
        random.NextBytes(bytes);
        for (var i = 0; i < bytes.Length - 4; i += random.Next(1, 200))
        {
            ChannelFrame.Magic.CopyTo(bytes.AsSpan(i));
        }

        Assert.Empty(Feed(reader, bytes));
        Assert.Equal([Text(One)], Feed(reader, Concat(FrameReader.Padding.ToArray(), Wire(One))));
    }

    private static byte[] Wire(in ChannelFrame frame)
    {
        var wire = new byte[frame.Size];
        frame.Write(wire);
        return wire;
    }

    private static byte[] Concat(params byte[][] parts) => [.. parts.SelectMany(p => p)];

    private static string Text(in ChannelFrame frame) =>
        $"{frame.Kind} {frame.Epoch} {frame.Stream} {frame.Offset} {Convert.ToHexString(frame.Body.Span)}";

    private static List<string> Feed(FrameReader reader, ReadOnlySpan<byte> bytes)
    {
        var read = new List<string>();
        while (!bytes.IsEmpty)
        {
            var room = reader.Room.Span;
            Assert.False(room.IsEmpty);
            var count = Math.Min(room.Length, bytes.Length);
            bytes[..count].CopyTo(room);
            reader.Received(count);
            bytes = bytes[count..];
            while (reader.TryRead(out var frame))
            {
                read.Add(Text(frame));
            }
        }

        return read;
    }
}
