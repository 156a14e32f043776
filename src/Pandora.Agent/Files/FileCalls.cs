using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pandora.Agent.Files;

/// <summary>
/// The system calls for files. A name is bytes without NUL, relative to the descriptor of a directory. A negative result is an errno.
/// </summary>
[SkipLocalsInit]
internal static unsafe partial class FileCalls
{
    /// <summary>Stands for the root directory's and the working directory's descriptor: names are absolute then.</summary>
    public const int NoDirectory = -100; // AT_FDCWD

    public const int NotPermitted = -1, NoEntry = -2, Again = -11, Denied = -13, Busy = -16, Exists = -17, OtherDevice = -18,
        NotDirectory = -20, IsDirectory = -21, Invalid = -22, NoSpace = -28, NameTooLong = -36, NotEmpty = -39, TooManyLinks = -40,
        NotSupported = -95;

    /// <summary>Flags of <see cref="Open"/>: open(2).</summary>
    public const int WriteOnly = 1, Create = 0x40, Exclusive = 0x80, NoTerminal = 0x100, NonBlocking = 0x800, PathOnly = 0x200000;

    /// <summary>Flags of what takes them: the name is empty, and is not followed.</summary>
    public const int EmptyPath = 0x1000, NoFollow = 0x100;

    /// <summary>A flag of <see cref="Rename"/>: the target must not exist.</summary>
    public const uint NoReplace = 1;

    /// <summary>Ways of <see cref="Seek"/>.</summary>
    public const int SeekSet = 0, SeekData = 3, SeekHole = 4;

    private const int CloseOnExec = 0x80000, Follow = 0x400, RemoveDirectory = 0x200;
    private const long OmitTime = 0x3FFFFFFE; // UTIME_OMIT
    private const int MostPath = 4096;

    // MODIFY, ATTRIB, MOVED_FROM, MOVED_TO, CREATE, DELETE, DELETE_SELF, MOVE_SELF, ONLYDIR, EXCL_UNLINK.
    private const uint WatchedEvents = 0x2 | 0x4 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x800 | 0x100_0000 | 0x400_0000;
    private static readonly bool s_isX64 = RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>O_DIRECTORY, whose number differs between processors.</summary>
    public static int OnlyDirectory { get; } = s_isX64 ? 0x10000 : 0x4000;

    /// <summary>O_NOFOLLOW, whose number differs between processors.</summary>
    public static int NoLink { get; } = s_isX64 ? 0x20000 : 0x8000;

    /// <summary>O_TMPFILE: a file without a name.</summary>
    public static int Unnamed { get; } = 0x400000 | OnlyDirectory;

    /// <summary>Opens a file.</summary>
    public static int Open(int directory, ReadOnlySpan<byte> name, int flags, uint mode = 0)
    {
        var text = stackalloc byte[MostPath];
        return Terminate(name, text) ? Result(openat(directory, text, flags | CloseOnExec, mode)) : NameTooLong;
    }

    /// <summary>Opens the file of a descriptor anew.</summary>
    public static int Reopen(int descriptor, int flags)
    {
        Span<byte> path = stackalloc byte[32];
        return Open(NoDirectory, path[..OwnPath(descriptor, path)], flags);
    }

    /// <summary>Reads what is known of a file (statx(2)).</summary>
    public static int Status(int directory, ReadOnlySpan<byte> name, int flags, out FileStatus status)
    {
        var text = stackalloc byte[MostPath];
        status = default;
        if (!Terminate(name, text))
        {
            return NameTooLong;
        }

        var found = stackalloc byte[256];
        // STATX_BASIC_STATS.
        var result = Result(statx(directory, text, flags, 0x7FF, found));
        if (result >= 0)
        {
            status = FileStatus.Of(found);
        }

        return result;
    }

    /// <summary>Reads what is known of an open file.</summary>
    public static int Status(int descriptor, out FileStatus status) => Status(descriptor, [], EmptyPath, out status);

    /// <summary>Reads what a link contains; 0 or more is the number of bytes.</summary>
    public static int ReadLink(int directory, ReadOnlySpan<byte> name, Span<byte> target)
    {
        var text = stackalloc byte[MostPath];
        if (!Terminate(name, text))
        {
            return NameTooLong;
        }

        fixed (byte* bytes = target)
        {
            return (int)Result(readlinkat(directory, text, bytes, (nuint)target.Length));
        }
    }

    /// <summary>Makes a directory.</summary>
    public static int MakeDirectory(int directory, ReadOnlySpan<byte> name, uint mode)
    {
        var text = stackalloc byte[MostPath];
        return Terminate(name, text) ? Result(mkdirat(directory, text, mode)) : NameTooLong;
    }

    /// <summary>Makes a FIFO, a socket or a device.</summary>
    public static int MakeNode(int directory, ReadOnlySpan<byte> name, uint mode, ulong device)
    {
        var text = stackalloc byte[MostPath];
        return Terminate(name, text) ? Result(mknodat(directory, text, mode, device)) : NameTooLong;
    }

    /// <summary>Makes a link that contains a path.</summary>
    public static int MakeLink(ReadOnlySpan<byte> target, int directory, ReadOnlySpan<byte> name)
    {
        byte* text = stackalloc byte[MostPath], other = stackalloc byte[MostPath];
        return Terminate(name, text) && Terminate(target, other) ? Result(symlinkat(other, directory, text)) : NameTooLong;
    }

    /// <summary>Gives an open file another name.</summary>
    public static int Link(int descriptor, int directory, ReadOnlySpan<byte> name)
    {
        var text = stackalloc byte[MostPath];
        Span<byte> path = stackalloc byte[32];
        var length = OwnPath(descriptor, path);
        path[length] = 0;
        fixed (byte* own = path)
        {
            return Terminate(name, text) ? Result(linkat(NoDirectory, own, directory, text, Follow)) : NameTooLong;
        }
    }

    /// <summary>Removes a file, or an empty directory.</summary>
    public static int Remove(int directory, ReadOnlySpan<byte> name, bool isDirectory)
    {
        var text = stackalloc byte[MostPath];
        return Terminate(name, text) ? Result(unlinkat(directory, text, isDirectory ? RemoveDirectory : 0)) : NameTooLong;
    }

    /// <summary>Moves a file or a directory.</summary>
    public static int Rename(int from, ReadOnlySpan<byte> name, int to, ReadOnlySpan<byte> newName, uint flags)
    {
        byte* text = stackalloc byte[MostPath], other = stackalloc byte[MostPath];
        return Terminate(name, text) && Terminate(newName, other) ? Result(renameat2(from, text, to, other, flags)) : NameTooLong;
    }

    /// <summary>Changes the owner of an open file, which may be open as a path only.</summary>
    public static int ChangeOwner(int descriptor, uint user, uint group)
    {
        byte empty = 0;
        return Result(fchownat(descriptor, &empty, user, group, EmptyPath));
    }

    /// <summary>Changes the permission bits of an open file, which may be open as a path only, but must be no link.</summary>
    public static int ChangeMode(int descriptor, uint mode)
    {
        Span<byte> path = stackalloc byte[32];
        path[OwnPath(descriptor, path)] = 0;
        fixed (byte* own = path)
        {
            return Result(chmod(own, mode));
        }
    }

    /// <summary>Sets when a file was last changed.</summary>
    /// <param name="descriptor">The open file, which may be open as a path only.</param>
    /// <param name="nanoseconds">Since 1970.</param>
    public static int ChangeTime(int descriptor, long nanoseconds)
    {
        Span<byte> path = stackalloc byte[32];
        return ChangeTime(NoDirectory, path[..OwnPath(descriptor, path)], nanoseconds, 0);
    }

    /// <summary>Sets when a file, or a link itself, was last changed.</summary>
    public static int ChangeTime(int directory, ReadOnlySpan<byte> name, long nanoseconds, int flags)
    {
        const long Second = 1_000_000_000;
        var text = stackalloc byte[MostPath];
        var (seconds, rest) = (Math.DivRem(nanoseconds, Second));
        if (rest < 0)
        {
            (seconds, rest) = (seconds - 1, rest + Second);
        }

        var times = stackalloc long[4] { 0, OmitTime, seconds, rest };
        return Terminate(name, text) ? Result(utimensat(directory, text, times, flags)) : NameTooLong;
    }

    /// <summary>Reads bytes at the descriptor's place; 0 at the end.</summary>
    public static int Read(int descriptor, Span<byte> bytes)
    {
        fixed (byte* target = bytes)
        {
            return (int)Result(read(descriptor, target, (nuint)bytes.Length));
        }
    }

    /// <summary>Writes some of the bytes.</summary>
    public static int Write(int descriptor, ReadOnlySpan<byte> bytes)
    {
        fixed (byte* source = bytes)
        {
            return (int)Result(write(descriptor, source, (nuint)bytes.Length));
        }
    }

    /// <summary>Sets the descriptor's place; the result is the place.</summary>
    public static long Seek(int descriptor, long offset, int way) => Result(lseek(descriptor, offset, way));

    /// <summary>Sets the size of an open file.</summary>
    public static int SetSize(int descriptor, long size) => Result(ftruncate(descriptor, size));

    /// <summary>Reads entries of a directory in the form of getdents64(2); 0 at the end.</summary>
    public static int ReadEntries(int descriptor, Span<byte> entries)
    {
        fixed (byte* target = entries)
        {
            return (int)Result(getdents64(descriptor, target, (nuint)entries.Length));
        }
    }

    /// <summary>The type of the filesystem that a file is on (statfs(2)); negative when it is not known.</summary>
    public static long FilesystemOf(int descriptor)
    {
        var found = stackalloc long[32];
        return fstatfs(descriptor, found) < 0 ? -1 : found[0];
    }

    /// <summary>Makes a queue of events of directories (inotify(7)), which does not wait.</summary>
    public static int CreateInotify() => Result(inotify_init1(CloseOnExec | NonBlocking));

    /// <summary>Watches an open directory.</summary>
    /// <returns>Number of the watch, which is the same for the same directory.</returns>
    public static int AddWatch(int inotify, int directory)
    {
        Span<byte> path = stackalloc byte[32];
        path[OwnPath(directory, path)] = 0;
        fixed (byte* own = path)
        {
            return Result(inotify_add_watch(inotify, own, WatchedEvents));
        }
    }

    /// <summary>Ends a watch.</summary>
    public static void RemoveWatch(int inotify, int watch) => _ = inotify_rm_watch(inotify, watch);

    /// <summary>Waits until one of two descriptors can be read.</summary>
    /// <param name="first">A descriptor.</param>
    /// <param name="second">Another one.</param>
    /// <param name="milliseconds">Longest wait; -1 for none.</param>
    public static void WaitForEither(int first, int second, int milliseconds)
    {
        // struct pollfd: descriptor, events (POLLIN), what happened.
        var descriptors = stackalloc int[4] { first, 1, second, 1 };
        _ = poll(descriptors, 2, milliseconds);
    }

    private static int OwnPath(int descriptor, Span<byte> path)
    {
        "/proc/self/fd/"u8.CopyTo(path);
        System.Buffers.Text.Utf8Formatter.TryFormat(descriptor, path[14..], out var length);
        return 14 + length;
    }

    private static bool Terminate(ReadOnlySpan<byte> name, byte* text)
    {
        if (name.Length >= MostPath)
        {
            return false;
        }

        name.CopyTo(new Span<byte>(text, name.Length));
        text[name.Length] = 0;
        return true;
    }

    private static int Result(int result) => result < 0 ? -Marshal.GetLastPInvokeError() : result;

    private static long Result(nint result) => result < 0 ? -Marshal.GetLastPInvokeError() : result;
}
