using System.Runtime.InteropServices;
using System.Text;

namespace Pandora.Agent;

/// <content>System calls for processes, pipes, terminals and the event loop.</content>
internal static unsafe partial class Linux
{
    public const uint EpollIn = 1, EpollPriority = 2, EpollOut = 4, EpollError = 8, EpollHangUp = 16, EpollEdge = 1u << 31;
    public const uint EpollReadHangUp = 0x2000;
    public const int NoSuchFile = 2, TryAgain = 11;
    private const int PathOnly = 0x200000, DirectoryOnly = 0x10000; // O_PATH, O_DIRECTORY
    private const int SetFlags = 4; // F_SETFL
    private const nuint ReadableBytes = 0x541B; // FIONREAD
    private const nuint UnlockTerminal = 0x40045431, OpenPeer = 0x5441, SetSize = 0x5414; // TIOCSPTLCK, TIOCGPTPEER, TIOCSWINSZ
    private const int NoControl = 0x100; // O_NOCTTY
    private const int FirstInFirstOut = 1; // SCHED_FIFO
    private const int MaxFiles = 7; // RLIMIT_NOFILE
    private const int OfPidfd = 3, Ended = 4; // P_PIDFD, WEXITED

    /// <summary>The number of the last error.</summary>
    public static int LastError => Marshal.GetLastPInvokeError();

    public static int CreateEpoll() => Check(epoll_create1(CloseOnExec), "epoll");

    /// <summary>Adds, changes (when it is there) or removes (with no events) a descriptor.</summary>
    public static void Watch(int epoll, int descriptor, uint events, bool isNew)
    {
        // struct epoll_event is packed on x86_64 only.
        var change = stackalloc byte[16];
        *(uint*)change = events;
        *(ulong*)(change + EventData) = (uint)descriptor;
        Check(epoll_ctl(epoll, isNew ? 1 : events == 0 ? 2 : 3, descriptor, change), "epoll");
    }

    /// <summary>Waits for events.</summary>
    /// <param name="epoll">The descriptor of <see cref="CreateEpoll"/>.</param>
    /// <param name="ready">Receives descriptors and their events.</param>
    /// <param name="milliseconds">Longest wait; -1 for none.</param>
    /// <returns>How many are ready.</returns>
    public static int Wait(int epoll, Span<(int Descriptor, uint Events)> ready, int milliseconds)
    {
        var size = EventData + 8;
        var events = stackalloc byte[ready.Length * size];
        var count = epoll_wait(epoll, events, ready.Length, milliseconds);
        for (var i = 0; i < count; i++)
        {
            ready[i] = ((int)*(ulong*)(events + (i * size) + EventData), *(uint*)(events + (i * size)));
        }

        return Math.Max(count, 0);
    }

    /// <summary>Makes a descriptor that can be read when it was signalled (eventfd(2)).</summary>
    public static int CreateEvent() => Check(eventfd(0, CloseOnExec | NonBlocking), "eventfd");

    /// <summary>Signals a descriptor of <see cref="CreateEvent"/>.</summary>
    public static void Signal(int descriptor)
    {
        var count = 1ul;
        _ = write(descriptor, (byte*)&count, 8);
    }

    /// <summary>Takes the signals of a descriptor of <see cref="CreateEvent"/>.</summary>
    public static void ClearSignal(int descriptor)
    {
        ulong count;
        _ = read(descriptor, (byte*)&count, 8);
    }

    /// <summary>Opens a pipe whose ends do not wait, as far as the agent uses them.</summary>
    /// <param name="isInput">Whether the agent has the end that is written; else the one that is read.</param>
    /// <param name="owner">Whose pipe it is, so that <c>/dev/stdout</c> can be opened.</param>
    /// <returns>The agent's end, and the process's.</returns>
    public static (int Own, int Other) OpenPipe(bool isInput, uint owner)
    {
        var ends = stackalloc int[2];
        Check(pipe2(ends, CloseOnExec), "pipe");
        var (own, other) = isInput ? (ends[1], ends[0]) : (ends[0], ends[1]);
        _ = fcntl(own, SetFlags, NonBlocking);
        if (owner != 0)
        {
            _ = fchown(other, owner, uint.MaxValue);
        }

        return (own, other);
    }

    /// <summary>Opens a terminal.</summary>
    /// <param name="owner">Its user.</param>
    /// <returns>The agent's side, and the process's.</returns>
    public static (int Own, int Other) OpenTerminal(uint owner)
    {
        int own;
        fixed (byte* name = "/dev/ptmx\0"u8)
        {
            own = Check(open(name, ReadWrite | CloseOnExec | NoControl | NonBlocking), "terminal");
        }

        var off = 0;
        var other = ioctl(own, UnlockTerminal, &off) < 0 ? -1 : ioctl(own, OpenPeer, (void*)(ReadWrite | CloseOnExec | NoControl));
        if (other < 0)
        {
            var error = LastError;
            Close(own);
            throw new IOException($"terminal: error {error}");
        }

        _ = fchown(other, owner, uint.MaxValue);
        _ = fchmod(other, 0x180); // 0600
        return (own, other);
    }

    /// <summary>Sets the size of a terminal.</summary>
    public static void Resize(int terminal, ushort columns, ushort rows)
    {
        // struct winsize: rows, columns, pixels.
        var size = stackalloc ushort[4] { rows, columns, 0, 0 };
        _ = ioctl(terminal, SetSize, size);
    }

    /// <summary>Number of bytes that can be read from a pipe.</summary>
    public static int Readable(int descriptor)
    {
        var count = 0;
        return ioctl(descriptor, ReadableBytes, &count) < 0 ? 0 : count;
    }

    /// <summary>Opens a file; negative when it could not be opened.</summary>
    public static int TryOpen(string path, bool isWritten = false) =>
        OpenWith(path, (isWritten ? 1 : 0) | CloseOnExec);

    /// <summary>Opens a device for reads and writes that do not wait.</summary>
    /// <exception cref="IOException">It could not be opened.</exception>
    public static int OpenWithoutWaiting(string path) => Check(OpenWith(path, ReadWrite | NonBlocking | CloseOnExec), path);

    /// <summary>Makes reads and writes of a descriptor not wait.</summary>
    public static void StopWaiting(int descriptor) => _ = fcntl(descriptor, SetFlags, NonBlocking);

    /// <summary>Opens a directory to name it in system calls; negative when it could not be opened.</summary>
    public static int TryOpenDirectory(string path) => OpenWith(path, PathOnly | DirectoryOnly | CloseOnExec);

    /// <summary>Writes some of the bytes; negative when the write failed.</summary>
    public static int WriteSome(int descriptor, ReadOnlySpan<byte> data)
    {
        fixed (byte* bytes = data)
        {
            return (int)write(descriptor, bytes, (nuint)data.Length);
        }
    }

    /// <summary>Makes a new file that only root can open, and removes its name; negative when it could not be made.</summary>
    public static int OpenUnnamed(string path)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            var file = open(name, ReadWrite | CloseOnExec | 0xC0 /* O_CREAT, O_EXCL */, 0x180 /* 0600 */);
            _ = unlink(name);
            return file;
        }
    }

    /// <summary>Writes all bytes at an offset.</summary>
    /// <returns>False when not all could be written.</returns>
    public static bool WriteAt(int descriptor, ReadOnlySpan<byte> data, ulong offset)
    {
        fixed (byte* bytes = data)
        {
            return pwrite(descriptor, bytes, (nuint)data.Length, (long)offset) == data.Length;
        }
    }

    /// <summary>Reads some bytes at an offset; negative when the read failed.</summary>
    public static int ReadAt(int descriptor, Span<byte> target, ulong offset)
    {
        fixed (byte* bytes = target)
        {
            return (int)pread(descriptor, bytes, (nuint)target.Length, (long)offset);
        }
    }

    /// <summary>Gives the space of a part of a file back.</summary>
    public static void PunchHole(int descriptor, ulong begin, ulong end)
    {
        if (end > begin)
        {
            // FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
            _ = fallocate(descriptor, 3, (long)begin, (long)(end - begin));
        }
    }

    public static bool MakeDirectory(string path)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return mkdir(name, 0x1ED) == 0; // 0755
        }
    }

    public static bool RemoveDirectory(string path)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return rmdir(name) == 0 || LastError == NoSuchFile;
        }
    }

    /// <summary>Takes the status of a process that has ended.</summary>
    /// <returns>Its exit code, or 128 + n for signal n; null while it runs.</returns>
    public static int? TakeStatus(int pidfd)
    {
        // siginfo_t: signal, error, code, padding, pid, uid, status.
        var info = stackalloc int[32];
        new Span<int>(info, 32).Clear();
        if (waitid(OfPidfd, pidfd, info, Ended | 1 /* WNOHANG */) < 0 || info[0] == 0)
        {
            return null;
        }

        // CLD_EXITED
        return info[2] == 1 ? info[6] & 255 : Math.Min(255, 128 + info[6]);
    }

    public static void SignalGroup(int pid, int signal) => _ = kill(-pid, signal);

    /// <summary>Gives the calling thread, and those that it starts, precedence over all ordinary processes of the guest.</summary>
    /// <returns>Whether the kernel did so.</returns>
    public static bool TryTakePrecedence()
    {
        var priority = 2;
        return sched_setscheduler(0, FirstInFirstOut, &priority) == 0;
    }

    /// <summary>Raises the limit of open files.</summary>
    public static void RaiseFileLimit(ulong files)
    {
        var limit = stackalloc ulong[2] { files, files };
        _ = setrlimit(MaxFiles, limit);
    }

    /// <summary>Nanoseconds of a clock that nobody sets.</summary>
    public static long Monotonic()
    {
        var time = stackalloc long[2];
        _ = clock_gettime(1, time); // CLOCK_MONOTONIC
        return (time[0] * 1_000_000_000) + time[1];
    }

    private static int EventData => RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 4 : 8;

    private static int OpenWith(string path, int flags)
    {
        fixed (byte* name = Encoding.UTF8.GetBytes(path + "\0"))
        {
            return open(name, flags);
        }
    }

    [LibraryImport("libc", SetLastError = true)]
    private static partial int epoll_create1(int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int epoll_ctl(int epoll, int operation, int descriptor, void* change);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int epoll_wait(int epoll, void* events, int count, int milliseconds);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int eventfd(uint count, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int pipe2(int* ends, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fcntl(int descriptor, int command, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchown(int descriptor, uint user, uint group);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchmod(int descriptor, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mkdir(byte* path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int rmdir(byte* path);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int waitid(int kind, int id, void* info, int options);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int sched_setscheduler(int pid, int policy, void* priority);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int setrlimit(int resource, void* limit);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int open(byte* path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pwrite(int descriptor, byte* bytes, nuint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint pread(int descriptor, byte* bytes, nuint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fallocate(int descriptor, int mode, long offset, long length);

    [LibraryImport("libc")]
    private static partial int unlink(byte* path);
}
