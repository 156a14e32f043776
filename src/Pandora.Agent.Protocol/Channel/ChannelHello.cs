using System.Buffers.Binary;

namespace Pandora.Agent.Protocol.Channel;

/// <summary>Body of <see cref="FrameKind.Hello"/> and <see cref="FrameKind.Welcome"/>: what its sender knows of the streams.</summary>
/// <param name="Previous">The epoch whose streams the sender still has; 0 for none. In a welcome: whether they go on.</param>
/// <param name="LastStream">In a welcome that goes on: the last stream that the agent has seen opened.</param>
/// <param name="Streams">Each of these streams.</param>
internal sealed record ChannelHello(ulong Previous, uint LastStream, IReadOnlyList<ChannelHello.Entry> Streams)
{
    /// <summary>Version of the channel's protocol. Both ends must have the same.</summary>
    public const byte Version = 1;

    private const int PrefixSize = 13, EntrySize = 13;

    /// <summary>Most streams that fit into a body.</summary>
    public const int MaxStreams = (ChannelFrame.MaxBody - PrefixSize) / EntrySize;

    /// <summary>What the sender has received of one stream.</summary>
    /// <param name="Stream">Its id.</param>
    /// <param name="Received">Number of bytes.</param>
    /// <param name="HasEnd">Whether the end was received, too.</param>
    internal readonly record struct Entry(uint Stream, ulong Received, bool HasEnd);

    /// <summary>Writes the body.</summary>
    public byte[] Encode()
    {
        var body = new byte[PrefixSize + (EntrySize * Streams.Count)];
        body[0] = Version;
        BinaryPrimitives.WriteUInt64LittleEndian(body.AsSpan(1), Previous);
        BinaryPrimitives.WriteUInt32LittleEndian(body.AsSpan(9), LastStream);
        for (var i = 0; i < Streams.Count; i++)
        {
            var entry = body.AsSpan(PrefixSize + (EntrySize * i));
            BinaryPrimitives.WriteUInt32LittleEndian(entry, Streams[i].Stream);
            BinaryPrimitives.WriteUInt64LittleEndian(entry[4..], Streams[i].Received);
            entry[12] = Streams[i].HasEnd ? (byte)1 : (byte)0;
        }

        return body;
    }

    /// <summary>Reads a body.</summary>
    /// <returns>Null when it is none of this version.</returns>
    public static ChannelHello? Decode(ReadOnlySpan<byte> body)
    {
        if (body.Length < PrefixSize || body[0] != Version || (body.Length - PrefixSize) % EntrySize != 0)
        {
            return null;
        }

        var streams = new Entry[(body.Length - PrefixSize) / EntrySize];
        for (var i = 0; i < streams.Length; i++)
        {
            var entry = body[(PrefixSize + (EntrySize * i))..];
            streams[i] = new Entry(
                BinaryPrimitives.ReadUInt32LittleEndian(entry), BinaryPrimitives.ReadUInt64LittleEndian(entry[4..]), entry[12] != 0);
        }

        return new ChannelHello(
            BinaryPrimitives.ReadUInt64LittleEndian(body[1..]), BinaryPrimitives.ReadUInt32LittleEndian(body[9..]), streams);
    }
}
