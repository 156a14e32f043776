using System.Buffers.Binary;
using System.Numerics;

namespace Pandora.Agent.Protocol.Channel;

/// <summary>Kinds of frames of the channel.</summary>
internal enum FrameKind : byte
{
    /// <summary>From the host: begins an epoch. The body is a <see cref="ChannelHello"/>.</summary>
    Hello = 1,

    /// <summary>Answers <see cref="Hello"/> in its epoch. The body is a <see cref="ChannelHello"/>.</summary>
    Welcome = 2,

    /// <summary>From the host: opens a stream. The body is the request.</summary>
    Open = 3,

    /// <summary>Bytes of a stream; the offset is that of the first.</summary>
    Data = 4,

    /// <summary>The offset is the number of bytes that the receiver's user has taken; the sender may forget them.</summary>
    Taken = 5,

    /// <summary>The sender's last byte is the one before the offset.</summary>
    End = 6,

    /// <summary>Answers <see cref="End"/>: it has come.</summary>
    Ended = 11,

    /// <summary>Closes a stream in both directions at once. The body is the reason, in UTF-8.</summary>
    Reset = 7,

    /// <summary>Asks the other end to send nothing but the answer, once all that it sent was taken.</summary>
    Quiesce = 8,

    /// <summary>Answers <see cref="Quiesce"/>: the last frame before <see cref="Continue"/>.</summary>
    Quiesced = 9,

    /// <summary>Ends the rest that <see cref="Quiesce"/> began.</summary>
    Continue = 10,

    /// <summary>From the agent, in epoch 0: it has just started, and knows no epoch. The host begins the next.</summary>
    Started = 12,
}

/// <summary>One frame.</summary>
/// <param name="Kind">Its kind.</param>
/// <param name="Epoch">The epoch that it belongs to: a random number that no program in the guest knows.</param>
/// <param name="Stream">Id of the stream; 0 where the kind has none.</param>
/// <param name="Offset">An absolute number of bytes of the stream; 0 where the kind has none.</param>
/// <param name="Body">At most <see cref="MaxBody"/> bytes.</param>
internal readonly record struct ChannelFrame(FrameKind Kind, ulong Epoch, uint Stream, ulong Offset, ReadOnlyMemory<byte> Body)
{
    /// <summary>Bytes before a body: magic (4), epoch (8), offset (8), stream (4), length (2), kind (1), zero (1), check (4).</summary>
    public const int HeaderSize = 32;

    /// <summary>Bytes after a body: the check again, inverted. A frame that was cut, and whose rest is another frame, fails it.</summary>
    public const int TrailerSize = 4;

    /// <summary>Most bytes of a body.</summary>
    public const int MaxBody = 32 * 1024;

    /// <summary>Most bytes of a frame.</summary>
    public const int MaxSize = HeaderSize + MaxBody + TrailerSize;

    private const int CheckAt = HeaderSize - 4;

    /// <summary>The first bytes of each frame.</summary>
    public static ReadOnlySpan<byte> Magic => "PNDC"u8;

    /// <summary>Number of bytes on the wire.</summary>
    public int Size => HeaderSize + Body.Length + TrailerSize;

    /// <summary>Writes the frame, all numbers little endian.</summary>
    /// <param name="wire">At least <see cref="Size"/> bytes.</param>
    public void Write(Span<byte> wire)
    {
        Magic.CopyTo(wire);
        BinaryPrimitives.WriteUInt64LittleEndian(wire[4..], Epoch);
        BinaryPrimitives.WriteUInt64LittleEndian(wire[12..], Offset);
        BinaryPrimitives.WriteUInt32LittleEndian(wire[20..], Stream);
        BinaryPrimitives.WriteUInt16LittleEndian(wire[24..], checked((ushort)Body.Length));
        wire[26] = (byte)Kind;
        wire[27] = 0;
        var check = CheckOf(wire);
        BinaryPrimitives.WriteUInt32LittleEndian(wire[CheckAt..], check);
        Body.Span.CopyTo(wire[HeaderSize..]);
        BinaryPrimitives.WriteUInt32LittleEndian(wire[(HeaderSize + Body.Length)..], ~check);
    }

    /// <summary>Reads the frame at the beginning of some bytes.</summary>
    /// <param name="wire">The bytes received so far.</param>
    /// <param name="frame">The frame, if it is complete; its body is a part of <paramref name="wire"/>.</param>
    /// <returns>The frame's size; 0 when more bytes must come; -1 when no frame begins here.</returns>
    public static int Read(ReadOnlyMemory<byte> wire, out ChannelFrame frame)
    {
        frame = default;
        var bytes = wire.Span;
        var begin = Math.Min(bytes.Length, Magic.Length);
        if (!bytes[..begin].SequenceEqual(Magic[..begin]))
        {
            return -1;
        }

        if (bytes.Length < HeaderSize)
        {
            return 0;
        }

        var length = BinaryPrimitives.ReadUInt16LittleEndian(bytes[24..]);
        var check = BinaryPrimitives.ReadUInt32LittleEndian(bytes[CheckAt..]);
        if (length > MaxBody || check != CheckOf(bytes))
        {
            return -1;
        }

        var size = HeaderSize + length + TrailerSize;
        if (bytes.Length < size)
        {
            return 0;
        }

        if (BinaryPrimitives.ReadUInt32LittleEndian(bytes[(HeaderSize + length)..]) != ~check)
        {
            return -1;
        }

        frame = new ChannelFrame(
            (FrameKind)bytes[26],
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[4..]),
            BinaryPrimitives.ReadUInt32LittleEndian(bytes[20..]),
            BinaryPrimitives.ReadUInt64LittleEndian(bytes[12..]),
            wire.Slice(HeaderSize, length));
        return size;
    }

    // CRC-32C of the header. It finds cuts and chance, not attackers: these do not know the epoch.
    private static uint CheckOf(ReadOnlySpan<byte> header)
    {
        var check = uint.MaxValue;
        for (var at = 0; at < CheckAt; at += sizeof(uint))
        {
            check = BitOperations.Crc32C(check, BinaryPrimitives.ReadUInt32LittleEndian(header[at..]));
        }

        return ~check;
    }
}
