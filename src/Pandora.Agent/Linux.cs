using System.Runtime.InteropServices;
using System.Text;

namespace Pandora.Agent;

/// <summary>The system calls that the agent uses.</summary>
internal static unsafe partial class Linux
{
    public const int EndOfProcess = 3; // ESRCH
    private const int ReadWrite = 2, CloseOnExec = 0x80000; // O_RDWR, O_CLOEXEC
    private const int FamilyVsock = 40, Stream = 1; // AF_VSOCK, SOCK_STREAM
    private const nuint AddEntropy = 0x40085203, Reseed = 0x5207; // RNDADDENTROPY, RNDRESEEDCRNG: include/uapi/linux/random.h
    private const int NonBlocking = 0x800; // O_NONBLOCK
    private const int SigKill = 9;

    public static int Open(string path)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return Check(open(name, ReadWrite | CloseOnExec), path);
        }
    }

    /// <summary>Opens a file for reads that do not wait; negative when it could not be opened.</summary>
    public static int OpenToPoll(string path)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            // O_RDONLY, O_NONBLOCK.
            return open(name, 0x800 | CloseOnExec);
        }
    }

    /// <summary>Reads the available bytes, and waits for at least one; 0 when the other side has closed, negative when the read
    /// failed.</summary>
    public static int Read(int descriptor, Span<byte> buffer)
    {
        fixed (byte* bytes = buffer)
        {
            return (int)read(descriptor, bytes, (nuint)buffer.Length);
        }
    }

    public static bool Write(int descriptor, ReadOnlySpan<byte> data)
    {
        fixed (byte* bytes = data)
        {
            for (var written = 0; written < data.Length;)
            {
                var count = write(descriptor, bytes + written, (nuint)(data.Length - written));
                if (count <= 0)
                {
                    return false;
                }

                written += (int)count;
            }
        }

        return true;
    }

    public static void Close(int descriptor) => _ = close(descriptor);

    /// <summary>Waits a number of milliseconds.</summary>
    public static void Pause(int milliseconds) => _ = poll(null, 0, milliseconds);

    /// <summary>Listens for connections from the host (vsock(7)).</summary>
    /// <param name="port">The port; below 1024 only root may listen.</param>
    /// <param name="isWaiting">Whether <see cref="Accept"/> waits.</param>
    public static int ListenVsock(uint port, bool isWaiting)
    {
        var socketDescriptor = Check(socket(FamilyVsock, Stream | CloseOnExec | (isWaiting ? 0 : NonBlocking), 0), "vsock");
        // struct sockaddr_vm: family, reserved, port, cid (any), padding.
        var address = stackalloc uint[4] { FamilyVsock, port, uint.MaxValue, 0 };
        Check(bind(socketDescriptor, address, 16), "vsock port");
        Check(listen(socketDescriptor, 128), "vsock port");
        return socketDescriptor;
    }

    /// <summary>Accepts a connection of the host, and closes those of others (vsock(7): the host's address is 2).</summary>
    /// <returns>A descriptor that does not wait; null when nobody connects.</returns>
    public static int? AcceptFromHost(int listener)
    {
        var address = stackalloc uint[4];
        while (true)
        {
            uint length = 16;
            var connection = accept4(listener, address, &length, CloseOnExec | NonBlocking);
            if (connection < 0)
            {
                return null;
            }

            if (address[2] == 2)
            {
                return connection;
            }

            Close(connection);
        }
    }

    /// <summary>Waits until a connection of the host comes, and accepts it.</summary>
    /// <returns>The descriptor; negative when the wait failed, or another program connected.</returns>
    public static int Accept(int listener)
    {
        var address = stackalloc uint[4];
        uint length = 16;
        var connection = accept4(listener, address, &length, CloseOnExec);
        if (connection >= 0 && address[2] != 2)
        {
            Close(connection);
            return -1;
        }

        return connection;
    }

    /// <summary>Nanoseconds since 1970.</summary>
    public static long Now()
    {
        var time = stackalloc long[2];
        _ = clock_gettime(0, time); // CLOCK_REALTIME
        return (time[0] * 1_000_000_000) + time[1];
    }

    public static void SetClock(long nanoseconds)
    {
        var time = stackalloc long[2] { nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000 };
        Check(clock_settime(0, time), "clock");
    }

    /// <summary>
    /// Adds fresh bytes to the kernel's random state, credits all their bits as entropy, and makes the generator use them at once
    /// (random(4)).
    /// </summary>
    public static void SeedRandom(ReadOnlySpan<byte> seed)
    {
        var words = (seed.Length + 3) / 4;
        // struct rand_pool_info: entropy in bits, bytes, the bytes.
        var info = stackalloc int[2 + words];
        info[0] = seed.Length * 8;
        info[1] = seed.Length;
        seed.CopyTo(new Span<byte>(info + 2, words * 4));
        var random = Open("/dev/urandom");
        try
        {
            Check(ioctl(random, AddEntropy, info), "RNDADDENTROPY");
            Check(ioctl(random, Reseed, null), "RNDRESEEDCRNG");
        }
        finally
        {
            Close(random);
        }
    }

    public static void SetHostname(string name)
    {
        var bytes = Encoding.ASCII.GetBytes(name);
        fixed (byte* text = bytes)
        {
            Check(sethostname(text, (nuint)bytes.Length), "hostname");
        }
    }

    public static void Kill(int pid) => _ = kill(pid, SigKill);

    public static bool Exists(int pid) => kill(pid, 0) == 0 || Marshal.GetLastPInvokeError() != EndOfProcess;

    private static int Check(int result, string what) =>
        result >= 0 ? result : throw new IOException($"{what}: error {Marshal.GetLastPInvokeError()}");

    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(int descriptor, byte* buffer, nuint length);

    [LibraryImport("libc")]
    private static partial int close(int descriptor);

    [LibraryImport("libc")]
    private static partial int poll(void* descriptors, nuint count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int socket(int family, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int bind(int descriptor, void* address, uint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int listen(int descriptor, int backlog);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int accept4(int descriptor, void* address, void* length, int flags);

    [LibraryImport("libc")]
    private static partial int clock_gettime(int clock, long* time);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int clock_settime(int clock, long* time);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ioctl(int descriptor, nuint request, void* argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sethostname(byte* name, nuint length);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int kill(int pid, int signal);
}
