using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Pandora.Agent;

/// <content>System calls for connections to programs of the guest.</content>
internal static unsafe partial class Linux
{
    /// <summary>Error numbers (errno(3)).</summary>
    public const int Interrupted = 4, InProgress = 115, NotConnected = 107, IsRefused = 111;

    private const int FamilyUnix = 1, FamilyIp4 = 2, FamilyIp6 = 10; // AF_UNIX, AF_INET, AF_INET6
    private const int LevelSocket = 1, SocketError = 4, Linger = 13; // SOL_SOCKET, SO_ERROR, SO_LINGER
    private const int LevelTcp = 6, NoDelay = 1; // IPPROTO_TCP, TCP_NODELAY
    private const int DoNotWait = 0x40, NoSignal = 0x4000; // MSG_DONTWAIT, MSG_NOSIGNAL
    private const int AddressSize = 28; // struct sockaddr_in6

    /// <summary>Begins to connect to a program.</summary>
    /// <param name="address">4 or 16 bytes.</param>
    /// <param name="port">The port.</param>
    /// <param name="mustBeOwn">Whether the connection must come from the same address, so that it must be one of this guest's.</param>
    /// <param name="descriptor">The socket, which does not wait; -1 when the connection is neither made nor under way.</param>
    /// <returns>0 when it is made, <see cref="InProgress"/> when it is under way, else the error.</returns>
    public static int ConnectTcp(ReadOnlySpan<byte> address, int port, bool mustBeOwn, out int descriptor)
    {
        var family = address.Length == 4 ? FamilyIp4 : FamilyIp6;
        descriptor = socket(family, Stream | CloseOnExec | NonBlocking, 0);
        if (descriptor < 0)
        {
            return LastError;
        }

        var on = 1;
        _ = setsockopt(descriptor, LevelTcp, NoDelay, &on, sizeof(int));
        var target = stackalloc byte[AddressSize];
        var length = WriteAddress(target, address, 0);
        var error = mustBeOwn && bind(descriptor, target, length) < 0 ? LastError : 0;
        if (error == 0)
        {
            WriteAddress(target, address, port);
            error = connect(descriptor, target, length) < 0 ? LastError : 0;
        }

        if (error is not 0 and not InProgress)
        {
            Close(descriptor);
            descriptor = -1;
        }

        return error;
    }

    /// <summary>The error of a connection that was under way; 0 for none.</summary>
    public static int TakeSocketError(int descriptor)
    {
        var (error, length) = (0, (uint)sizeof(int));
        return getsockopt(descriptor, LevelSocket, SocketError, &error, &length) < 0 ? LastError : error;
    }

    /// <summary>
    /// Whether a socket is connected, and to another one. Where no program listens, a connection to a port of the range for outgoing
    /// connections may get that very port, and so be connected to itself (RFC 9293, 3.5).
    /// </summary>
    /// <param name="descriptor">The socket.</param>
    /// <param name="isToItself">Whether it is connected to itself.</param>
    /// <returns>False when it is not connected.</returns>
    public static bool IsConnected(int descriptor, out bool isToItself)
    {
        byte* own = stackalloc byte[AddressSize], other = stackalloc byte[AddressSize];
        uint ownLength = AddressSize, otherLength = AddressSize;
        isToItself = false;
        if (getpeername(descriptor, other, &otherLength) < 0 || getsockname(descriptor, own, &ownLength) < 0)
        {
            return false;
        }

        isToItself = new Span<byte>(own, (int)ownLength).SequenceEqual(new Span<byte>(other, (int)otherLength));
        return true;
    }

    /// <summary>Opens two sockets that are connected to each other (socketpair(2)).</summary>
    /// <exception cref="IOException">They could not be opened.</exception>
    public static (int Own, int Other) OpenSocketPair()
    {
        var ends = stackalloc int[2];
        Check(socketpair(FamilyUnix, Stream | CloseOnExec, 0, ends), "socketpair");
        return (ends[0], ends[1]);
    }

    /// <summary>Takes bytes of a socket without waiting; 0 at the end, negative when the call failed.</summary>
    public static int Receive(int descriptor, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            return (int)recv(descriptor, bytes, (nuint)buffer.Length, DoNotWait);
        }
    }

    /// <summary>Gives bytes to a socket without waiting; negative when the call failed.</summary>
    public static int Send(int descriptor, ReadOnlySpan<byte> data)
    {
        fixed (byte* bytes = data)
        {
            return (int)send(descriptor, bytes, (nuint)data.Length, DoNotWait | NoSignal);
        }
    }

    /// <summary>Ends the direction to the other end of a socket.</summary>
    public static void EndSending(int descriptor) => _ = shutdown(descriptor, 1 /* SHUT_WR */);

    /// <summary>Makes <see cref="Close"/> break a connection, so that its other end does not take what was cut for the whole.</summary>
    public static void BreakAtClose(int descriptor)
    {
        // struct linger: on, seconds.
        var linger = stackalloc int[2] { 1, 0 };
        _ = setsockopt(descriptor, LevelSocket, Linger, linger, 2 * sizeof(int));
    }

    private static uint WriteAddress(byte* target, ReadOnlySpan<byte> address, int port)
    {
        var bytes = new Span<byte>(target, AddressSize);
        bytes.Clear();
        *(ushort*)target = (ushort)(address.Length == 4 ? FamilyIp4 : FamilyIp6);
        BinaryPrimitives.WriteUInt16BigEndian(bytes[2..], (ushort)port);
        // struct sockaddr_in has 16 bytes and the address at 4; struct sockaddr_in6 has the address after 4 bytes of a label.
        address.CopyTo(bytes[(address.Length == 4 ? 4 : 8)..]);
        return address.Length == 4 ? 16u : AddressSize;
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int connect(int descriptor, void* address, uint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getsockopt(int descriptor, int level, int name, void* value, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setsockopt(int descriptor, int level, int name, void* value, uint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getsockname(int descriptor, void* address, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int getpeername(int descriptor, void* address, uint* length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socketpair(int family, int type, int protocol, int* ends);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint recv(int descriptor, byte* bytes, nuint count, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint send(int descriptor, byte* bytes, nuint count, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int shutdown(int descriptor, int way);
}
