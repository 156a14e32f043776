using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Pandora.Engine.Networking;

/// <summary>A netlink socket (netlink(7)). The kernel answers for the network namespace of the thread that made the socket. One caller at a
/// time may use it.</summary>
internal sealed unsafe partial class Netlink : IDisposable
{
    /// <summary>Protocols: addresses and routes (rtnetlink(7)); connections and nftables.</summary>
    public const int Route = 0, Netfilter = 12;
    private const int FamilyNetlink = 16, Raw = 3, CloseOnExec = 0x80000; // AF_NETLINK, SOCK_RAW, SOCK_CLOEXEC
    private const ushort Request = 1, Acknowledge = 4, Dump = 0x300; // NLM_F_…
    private const ushort ErrorMessage = 2, Done = 3; // NLMSG_…
    private const int HeaderSize = 16, Timeout = 2;
    private readonly byte[] _buffer;
    private readonly int _socket;
    private uint _sequence;
    private int _disposed;

    /// <param name="protocol"><see cref="Route"/> or <see cref="Netfilter"/>.</param>
    /// <param name="bufferBytes">Size of the read buffer: a list comes in pieces of up to 32 KiB.</param>
    /// <exception cref="IOException">The kernel refused the socket, for example because no descriptor is free.</exception>
    public Netlink(int protocol, int bufferBytes = 64 * 1024)
    {
        _buffer = new byte[bufferBytes];
        _socket = Socket(FamilyNetlink, Raw | CloseOnExec, protocol);
        if (_socket < 0)
        {
            throw new IOException($"no netlink socket: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        // SOL_SOCKET, SO_RCVTIMEO: struct timeval. An answer that never comes must not hold a thread.
        var time = stackalloc long[2] { Timeout, 0 };
        _ = SetOption(_socket, 1, 20, time, 16);
    }

    /// <summary>Receives each message of an answer: its type, and the bytes after its header.</summary>
    public delegate void MessageReader(ushort type, ReadOnlySpan<byte> body);

    /// <summary>Sends one request and reads messages until the kernel's acknowledgement.</summary>
    /// <exception cref="IOException">The kernel refused, or did not answer.</exception>
    public void Ask(ushort type, ReadOnlySpan<byte> body, MessageReader? onMessage = null) => Send(type, Acknowledge, body, onMessage);

    /// <summary>Asks for all objects of a kind.</summary>
    /// <exception cref="IOException">The kernel refused, or did not answer.</exception>
    public void List(ushort type, ReadOnlySpan<byte> body, MessageReader onMessage) => Send(type, Dump, body, onMessage);

    /// <summary>Encodes one attribute: length, type, value, padded to four bytes.</summary>
    public static byte[] Attribute(ushort type, ReadOnlySpan<byte> value)
    {
        var bytes = new byte[(4 + value.Length + 3) & ~3];
        BinaryPrimitives.WriteUInt16LittleEndian(bytes, (ushort)(4 + value.Length));
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(2), type);
        value.CopyTo(bytes.AsSpan(4));
        return bytes;
    }

    /// <summary>Encodes an attribute that contains other attributes (NLA_F_NESTED).</summary>
    public static byte[] Nested(ushort type, params ReadOnlySpan<byte[]> attributes)
    {
        var inner = new List<byte>();
        foreach (var attribute in attributes)
        {
            inner.AddRange(attribute);
        }

        return Attribute((ushort)(type | 0x8000), CollectionsMarshal.AsSpan(inner));
    }

    /// <summary>Returns the value of the first attribute of a type; empty when there is none.</summary>
    public static ReadOnlySpan<byte> Find(ReadOnlySpan<byte> attributes, ushort type)
    {
        while (attributes.Length >= 4)
        {
            var length = BinaryPrimitives.ReadUInt16LittleEndian(attributes);
            if (length < 4 || length > attributes.Length)
            {
                break;
            }

            if ((BinaryPrimitives.ReadUInt16LittleEndian(attributes[2..]) & 0x3FFF) == type)
            {
                return attributes[4..length];
            }

            attributes = attributes[Math.Min(attributes.Length, (length + 3) & ~3)..];
        }

        return [];
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (Interlocked.Exchange(ref _disposed, 1) == 0)
        {
            _ = Close(_socket);
        }
    }

    // Header (nlmsghdr): length, type, flags, sequence, port.
    private void Send(ushort type, ushort flags, ReadOnlySpan<byte> body, MessageReader? onMessage)
    {
        ObjectDisposedException.ThrowIf(_disposed != 0, this);
        var message = new byte[HeaderSize + body.Length];
        BinaryPrimitives.WriteInt32LittleEndian(message, message.Length);
        BinaryPrimitives.WriteUInt16LittleEndian(message.AsSpan(4), type);
        BinaryPrimitives.WriteUInt16LittleEndian(message.AsSpan(6), (ushort)(Request | flags));
        BinaryPrimitives.WriteUInt32LittleEndian(message.AsSpan(8), ++_sequence);
        body.CopyTo(message.AsSpan(HeaderSize));
        fixed (byte* bytes = message)
        {
            if (Write(_socket, bytes, (nuint)message.Length) != message.Length)
            {
                throw new IOException($"netlink: {Marshal.GetLastPInvokeErrorMessage()}");
            }
        }

        while (!Receive(onMessage))
        {
            // More messages follow.
        }
    }

    // True when the answer is complete.
    private bool Receive(MessageReader? onMessage)
    {
        nint count;
        fixed (byte* bytes = _buffer)
        {
            count = Read(_socket, bytes, (nuint)_buffer.Length);
        }

        if (count <= 0)
        {
            throw new IOException($"netlink: {Marshal.GetLastPInvokeErrorMessage()}");
        }

        for (var rest = _buffer.AsSpan(0, (int)count); rest.Length >= HeaderSize;)
        {
            var length = BinaryPrimitives.ReadInt32LittleEndian(rest);
            if (length < HeaderSize || length > rest.Length)
            {
                throw new IOException("netlink: a message with an invalid length");
            }

            var type = BinaryPrimitives.ReadUInt16LittleEndian(rest[4..]);
            // Skip answers to an earlier request that was given up.
            if (BinaryPrimitives.ReadUInt32LittleEndian(rest[8..]) == _sequence)
            {
                if (type is ErrorMessage or Done)
                {
                    var error = length >= HeaderSize + 4 ? BinaryPrimitives.ReadInt32LittleEndian(rest[HeaderSize..]) : 0;
                    return error >= 0 ? true : throw new IOException($"netlink: {Marshal.GetPInvokeErrorMessage(-error)}", -error);
                }

                onMessage?.Invoke(type, rest[HeaderSize..length]);
            }

            rest = rest[Math.Min(rest.Length, (length + 3) & ~3)..];
        }

        return false;
    }

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int Socket(int family, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetOption(int socket, int level, int name, void* value, uint length);

    [LibraryImport("libc", EntryPoint = "write", SetLastError = true)]
    private static partial nint Write(int descriptor, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "read", SetLastError = true)]
    private static partial nint Read(int descriptor, byte* buffer, nuint count);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
