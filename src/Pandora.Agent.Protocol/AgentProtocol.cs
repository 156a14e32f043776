using System.Buffers.Binary;
using System.Text;

namespace Pandora.Agent.Protocol;

/// <summary>Kinds of frames. Frames with odd numbers go to the guest; frames with even numbers come from the guest.</summary>
internal enum AgentMessage : byte
{
    /// <summary>Asks for the same bytes back.</summary>
    Ping = 1,

    /// <summary>Answers <see cref="Ping"/>, with the same body.</summary>
    Pong = 2,

    /// <summary>Gives a restored guest its identity: <see cref="ResumeBody"/>.</summary>
    Resume = 3,

    /// <summary>Answers <see cref="Resume"/>, when all of it is done.</summary>
    Resumed = 4,

    /// <summary>Asks for the guest's clock.</summary>
    ReadClock = 5,

    /// <summary>Answers <see cref="ReadClock"/>: nanoseconds since 1970 in 8 bytes.</summary>
    Clock = 6,

    /// <summary>Moves the guest's clock by a number of nanoseconds, in 8 bytes. It is a difference, so a late delivery does no
    /// harm.</summary>
    ShiftClock = 7,

    /// <summary>Answers <see cref="ShiftClock"/>.</summary>
    ClockShifted = 8,

    /// <summary>Asks for the disk errors of the guest's kernel. An agent of an earlier version answers <see cref="Failed"/>.</summary>
    AskHealth = 9,

    /// <summary>The agent has started, or a connection was made. The body is empty and the id is 0.</summary>
    Ready = 10,

    /// <summary>Answers <see cref="AskHealth"/>: the number of errors of the guest's disks that its kernel has reported since it started,
    /// in 4 bytes.</summary>
    Health = 14,

    /// <summary>Asks for what the guest uses. An agent of an earlier version answers <see cref="Failed"/>.</summary>
    AskUsage = 11,

    /// <summary>Answers <see cref="AskUsage"/>: <see cref="UsageBody"/>.</summary>
    Usage = 16,

    /// <summary>The request could not be done; the body says why, in UTF-8.</summary>
    Failed = 12,
}

/// <summary>One message.</summary>
/// <param name="Message">Kind of the message.</param>
/// <param name="Id">Id of the question. An answer has the id of its question.</param>
/// <param name="Body">At most <see cref="AgentProtocol.MaxBody"/> bytes.</param>
internal readonly record struct AgentFrame(AgentMessage Message, uint Id, ReadOnlyMemory<byte> Body);

/// <summary>
/// The protocol between the server and the agents in its guests. A frame is 4 bytes <c>PNDA</c>, version, message, id (4 bytes) and length
/// (4 bytes), all little endian, then the body. This file is compiled into both ends. A guest may send any bytes: this code checks each
/// length before it uses it, and no buffer grows.
/// </summary>
internal static class AgentProtocol
{
    /// <summary>The version that both ends must have.</summary>
    public const byte Version = 1;

    /// <summary>Bytes before a body.</summary>
    public const int HeaderSize = 14;

    /// <summary>Most bytes of a body.</summary>
    public const int MaxBody = 16 * 1024;

    /// <summary>The port that the agent listens on for questions, in a guest with vsock. Only root may listen below 1024.</summary>
    public const int VsockPort = 1000;

    /// <summary>The port of agents before there were streams.</summary>
    public const int OldVsockPort = 1024;

    /// <summary>The port that the agent listens on for streams, in a guest with vsock.</summary>
    public const int StreamVsockPort = 1001;

    /// <summary>Name of the virtio-serial port for questions, in a guest without vsock.</summary>
    public const string SerialPort = "pandora.agent";

    /// <summary>Name of the virtio-serial port for streams.</summary>
    public const string StreamSerialPort = "pandora.streams";

    /// <summary>Bytes of the secret with which each connection for a stream begins, in a guest with vsock.</summary>
    public const int SecretSize = 32;

    private static ReadOnlySpan<byte> Magic => "PNDA"u8;

    /// <summary>Writes the body of <see cref="AgentMessage.Health"/>.</summary>
    public static byte[] EncodeHealth(uint diskErrors)
    {
        var body = new byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(body, diskErrors);
        return body;
    }

    /// <summary>Reads what <see cref="EncodeHealth"/> wrote.</summary>
    /// <exception cref="FormatException">The body is not 4 bytes.</exception>
    public static uint DecodeHealth(ReadOnlySpan<byte> body) =>
        body.Length == 4 ? BinaryPrimitives.ReadUInt32LittleEndian(body) : throw new FormatException("no report of health");

    /// <summary>Writes a frame.</summary>
    /// <exception cref="ArgumentException">The body is too long.</exception>
    public static byte[] Encode(AgentMessage message, uint id, ReadOnlySpan<byte> body)
    {
        if (body.Length > MaxBody)
        {
            throw new ArgumentException($"a body of {body.Length} bytes is over {MaxBody}", nameof(body));
        }

        var frame = new byte[HeaderSize + body.Length];
        Magic.CopyTo(frame);
        frame[4] = Version;
        frame[5] = (byte)message;
        BinaryPrimitives.WriteUInt32LittleEndian(frame.AsSpan(6), id);
        BinaryPrimitives.WriteInt32LittleEndian(frame.AsSpan(10), body.Length);
        body.CopyTo(frame.AsSpan(HeaderSize));
        return frame;
    }

    /// <summary>Reads the frame at the beginning of some bytes.</summary>
    /// <param name="bytes">The bytes received so far.</param>
    /// <param name="frame">The frame, if it is complete.</param>
    /// <returns>The frame's length in bytes; 0 when more bytes must come; -1 when the bytes are no frame of this version.</returns>
    public static int Decode(ReadOnlySpan<byte> bytes, out AgentFrame frame)
    {
        frame = default;
        var begin = Math.Min(bytes.Length, Magic.Length);
        if (!bytes[..begin].SequenceEqual(Magic[..begin]) || (bytes.Length > 4 && bytes[4] != Version))
        {
            return -1;
        }

        if (bytes.Length < HeaderSize)
        {
            return 0;
        }

        var length = BinaryPrimitives.ReadInt32LittleEndian(bytes[10..]);
        if (length is < 0 or > MaxBody)
        {
            return -1;
        }

        if (bytes.Length < HeaderSize + length)
        {
            return 0;
        }

        frame = new AgentFrame(
            (AgentMessage)bytes[5], BinaryPrimitives.ReadUInt32LittleEndian(bytes[6..]), bytes.Slice(HeaderSize, length).ToArray());
        return HeaderSize + length;
    }

    /// <summary>Writes a number of nanoseconds.</summary>
    public static byte[] EncodeNanoseconds(long nanoseconds)
    {
        var body = new byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(body, nanoseconds);
        return body;
    }

    /// <summary>Reads a number of nanoseconds.</summary>
    /// <exception cref="FormatException">The body is not 8 bytes.</exception>
    public static long DecodeNanoseconds(ReadOnlySpan<byte> body) =>
        body.Length == 8 ? BinaryPrimitives.ReadInt64LittleEndian(body) : throw new FormatException("a time is 8 bytes");
}

/// <summary>What a restored guest does not share with other guests of the same snapshot.</summary>
/// <param name="UnixNanoseconds">The host's clock when the message was sent, in nanoseconds since 1970.</param>
/// <param name="Seed">Fresh random bytes for the kernel.</param>
/// <param name="Hostname">The guest's hostname.</param>
/// <param name="MachineId">Content of <c>/etc/machine-id</c>: 32 hexadecimal digits.</param>
/// <param name="HostKey">The private SSH host key in dropbear's format.</param>
/// <param name="Secret">The guest's secret: <see cref="AgentProtocol.SecretSize"/> bytes; empty for an agent that has no streams.</param>
internal sealed record ResumeBody(long UnixNanoseconds, byte[] Seed, string Hostname, string MachineId, byte[] HostKey, byte[] Secret)
{
    /// <summary>Writes the body: the time, then each part after its length in 2 bytes. Agents without streams know no secret.</summary>
    public byte[] Encode()
    {
        using var body = new MemoryStream();
        body.Write(AgentProtocol.EncodeNanoseconds(UnixNanoseconds));
        Span<byte> length = stackalloc byte[2];
        byte[][] parts = [Seed, Encoding.ASCII.GetBytes(Hostname), Encoding.ASCII.GetBytes(MachineId), HostKey, Secret];
        foreach (var part in Secret.Length == 0 ? parts[..^1] : parts)
        {
            BinaryPrimitives.WriteUInt16LittleEndian(length, checked((ushort)part.Length));
            body.Write(length);
            body.Write(part);
        }

        return body.ToArray();
    }

    /// <summary>Reads a body.</summary>
    /// <exception cref="FormatException">The body is too short or too long.</exception>
    public static ResumeBody Decode(ReadOnlySpan<byte> body)
    {
        var parts = new byte[5][];
        var rest = body.Length >= 8 ? body[8..] : throw new FormatException("a resume without a time");
        for (var i = 0; i < parts.Length; i++)
        {
            if (rest.Length < 2 || BinaryPrimitives.ReadUInt16LittleEndian(rest) is var length && rest.Length < 2 + length)
            {
                throw new FormatException("a resume that is cut off");
            }

            parts[i] = rest.Slice(2, length).ToArray();
            rest = rest[(2 + length)..];
        }

        return rest.IsEmpty
            ? new ResumeBody(
                AgentProtocol.DecodeNanoseconds(body[..8]),
                parts[0],
                Encoding.ASCII.GetString(parts[1]),
                Encoding.ASCII.GetString(parts[2]),
                parts[3],
                parts[4])
            : throw new FormatException("a resume that is too long");
    }
}
