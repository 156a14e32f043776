using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>
/// System calls that .NET does not offer. The numbers of the newer system calls are the same on every architecture
/// (include/uapi/asm-generic/unistd.h).
/// </summary>
internal static partial class Libc
{
    public const int SigKill = 9, SigTerm = 15;
    public const int EpollCtlAdd = 1;
    public const uint EpollIn = 1;
    public const uint EpollOneShot = 1u << 30;
    public const int ProtRead = 1, ProtWrite = 2, ProtExec = 4, MapPrivate = 2, MapAnonymous = 0x20;
    public const int SeekData = 3, SeekHole = 4;
    private const long PidfdSendSignalNumber = 424, PidfdOpenNumber = 434, CloseRangeNumber = 436, OpenAt2Number = 437;

    /// <summary>Opens a process (pidfd_open(2)); null when there is no process with that pid.</summary>
    /// <exception cref="IOException">The process could not be opened for another reason, for example because no descriptor is
    /// free.</exception>
    public static int? TryPidfdOpen(int pid)
    {
        var pidfd = (int)Syscall(PidfdOpenNumber, pid, 0, 0, 0);
        if (pidfd >= 0)
        {
            return pidfd;
        }

        // The number may belong to a thread by now, and then to no process: EINVAL, and ENOENT in newer kernels.
        var error = Marshal.GetLastPInvokeError();
        return error is NoSuchProcess or InvalidArgument or NoEntry ? null
            : throw new IOException($"process {pid} could not be opened: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    public static int PidfdSendSignal(int pidfd, int signal) => (int)Syscall(PidfdSendSignalNumber, pidfd, signal, 0, 0);

    /// <summary>Opens a name below a directory, with rules for links in the name (openat2(2)). Negative when it failed.</summary>
    public static unsafe int OpenAt(SafeHandle directory, string path, int flags, int mode, int resolve)
    {
        // struct open_how: flags, mode, resolve, eight bytes each.
        var how = stackalloc ulong[3] { (ulong)flags, (ulong)mode, (ulong)resolve };
        var name = Marshal.StringToCoTaskMemUTF8(path);
        try
        {
            return (int)Syscall(OpenAt2Number, directory.DangerousGetHandle(), name, (nint)how, 3 * sizeof(ulong));
        }
        finally
        {
            Marshal.FreeCoTaskMem(name);
        }
    }

    /// <summary>Whether a descriptor can be read from without waiting.</summary>
    public static unsafe bool IsReadable(int fd)
    {
        // struct pollfd: int fd; short events, revents.
        var poll = stackalloc int[2];
        poll[0] = fd;
        poll[1] = 1; // POLLIN
        return Poll(poll, 1, 0) > 0;
    }

    /// <summary>Sets the owner of a file to a user and the group of the same number.</summary>
    /// <exception cref="IOException">The owner could not be set.</exception>
    public static void ChangeOwner(string path, int id) => Check(Chown(path, id, id), $"the owner of {path} could not be set to user {id}");

    /// <summary>Sets the owner of an open file to a user and the group of the same number.</summary>
    /// <exception cref="IOException">The owner could not be set.</exception>
    public static void ChangeOwner(SafeHandle file, int id) =>
        Check(ChownOpen(file, id, id), $"the owner of an open file could not be set to user {id}");

    /// <summary>Reads the status of a file; null when there is no such file.</summary>
    /// <exception cref="IOException">The status could not be read.</exception>
    public static unsafe FileStatus? Status(string path, bool follow)
    {
        // struct statx: number of names at byte 16, user at 20, mode at 28, inode at 32, blocks at 48, device at 136.
        // AT_FDCWD, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS.
        var statx = stackalloc byte[256];
        if (Statx(-100, path, follow ? 0 : 0x100, 0x7FF, (uint*)statx) == 0)
        {
            return new FileStatus(*(int*)(statx + 20), *(ushort*)(statx + 28), *(uint*)(statx + 16), *(ulong*)(statx + 32),
                *(ulong*)(statx + 136), *(long*)(statx + 48));
        }

        var error = Marshal.GetLastPInvokeError();
        return error is NoEntry or NoDirectory ? null
            : throw new IOException($"the status of {path} could not be read: {Marshal.GetPInvokeErrorMessage(error)}");
    }

    /// <summary>Marks all descriptors from a number upwards to be closed when another program is started (close_range(2),
    /// CLOSE_RANGE_CLOEXEC; Linux 5.11).</summary>
    public static void CloseOnExec(int first)
    {
        if (Syscall(CloseRangeNumber, first, uint.MaxValue, 4, 0) == 0)
        {
            return;
        }

        foreach (var entry in Directory.GetFileSystemEntries("/proc/self/fd"))
        {
            // F_SETFD, FD_CLOEXEC. The descriptor that listed the directory is closed already; the call fails for it.
            if (int.TryParse(Path.GetFileName(entry), out var descriptor) && descriptor >= first)
            {
                _ = FileControl(descriptor, 2, 1);
            }
        }
    }

    /// <summary>Links a file under another name; false when that name is on another file system.</summary>
    /// <exception cref="IOException">The file could not be linked for another reason.</exception>
    public static bool TryLink(string path, string target)
    {
        if (Link(path, target) == 0)
        {
            return true;
        }

        return Marshal.GetLastPInvokeError() == CrossDevice
            ? false
            : throw new IOException($"{path} could not be linked to {target}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    /// <summary>Links an open file under another name, even if the name that it was opened by has changed; false when the new name is on
    /// another file system (linkat(2), AT_SYMLINK_FOLLOW).</summary>
    /// <exception cref="IOException">The file could not be linked for another reason, for example because it has no name any
    /// more.</exception>
    public static bool TryLink(SafeHandle file, string target)
    {
        if (LinkAt(-100, FileStatus.PathOf(file), -100, target, 0x400) == 0)
        {
            return true;
        }

        return Marshal.GetLastPInvokeError() == CrossDevice ? false
            : throw new IOException($"an open file could not be linked to {target}: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    /// <summary>Mounts a file under a second name (mount(2), MS_BIND).</summary>
    /// <exception cref="IOException">The file could not be mounted.</exception>
    public static void BindMount(string path, string target) =>
        Check(Mount(path, target, null, 4096, 0), $"{path} could not be mounted on {target}");

    /// <summary>Unmounts a name at once. Processes that have the file open keep it until they close it (umount2(2), MNT_DETACH).</summary>
    /// <exception cref="IOException">The name could not be unmounted.</exception>
    public static void Unmount(string target) => Check(Unmount(target, 2), $"{target} could not be unmounted");

    /// <summary>Renames a file or a link, and replaces a file that has the new name (rename(2)).</summary>
    /// <exception cref="IOException">The file could not be renamed.</exception>
    public static void Rename(string path, string target) => Check(RenameFile(path, target), $"{path} could not be renamed to {target}");

    /// <summary>
    /// Makes a file share the blocks of another file until one of them changes (ioctl_ficlonerange(2), FICLONE); false when the file system
    /// does not support that.
    /// </summary>
    public static bool TryClone(int source, int target) => Control(target, 0x40049409, source) == 0;

    /// <summary>Sends bytes and a descriptor over a UNIX socket (unix(7), SCM_RIGHTS).</summary>
    /// <exception cref="IOException">The bytes could not be sent, or not all of them.</exception>
    public static unsafe void SendDescriptor(int socket, ReadOnlySpan<byte> data, int descriptor)
    {
        fixed (byte* bytes = data)
        {
            // struct iovec; struct cmsghdr with length, SOL_SOCKET, SCM_RIGHTS and one int; struct msghdr: name, vectors, control, flags.
            var vector = stackalloc nint[2] { (nint)bytes, data.Length };
            var control = stackalloc nint[3] { 20, 1 | ((nint)1 << 32), descriptor };
            var message = stackalloc nint[7] { 0, 0, (nint)vector, 1, (nint)control, 24, 0 };
            if (SendMessage(socket, message, 0) != data.Length)
            {
                throw new IOException($"a descriptor could not be sent: {Marshal.GetLastPInvokeErrorMessage()}");
            }
        }
    }

    /// <summary>
    /// Makes a file that is only in memory and can be sealed (memfd_create(2)). It exists while a process has it open or mapped.
    /// </summary>
    /// <exception cref="IOException">The file could not be made.</exception>
    public static SafeFileHandle CreateMemoryFile(string name)
    {
        // MFD_CLOEXEC, MFD_ALLOW_SEALING.
        var descriptor = MemoryFile(name, 3);
        return descriptor >= 0
            ? new SafeFileHandle(descriptor, ownsHandle: true)
            : throw new IOException($"no file in memory could be made: {Marshal.GetLastPInvokeErrorMessage()}");
    }

    /// <summary>Prevents all further writes to a file in memory, and changes of its size (fcntl(2), F_ADD_SEALS).</summary>
    /// <exception cref="IOException">The file cannot be sealed, or a process has it mapped for writing.</exception>
    public static void Seal(SafeFileHandle file) =>
        // F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW, F_SEAL_WRITE.
        Check(FileControl((int)file.DangerousGetHandle(), 1033, 1 | 2 | 4 | 8), "a file in memory could not be sealed");

    /// <summary>The error of a system call on a process that has ended (ESRCH).</summary>
    public const int NoSuchProcess = 3;

    private const int CrossDevice = 18, NoEntry = 2, NoDirectory = 20, InvalidArgument = 22; // EXDEV, ENOENT, ENOTDIR, EINVAL

    private static void Check(int result, string message)
    {
        if (result != 0)
        {
            throw new IOException($"{message}: {Marshal.GetLastPInvokeErrorMessage()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "chown", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Chown(string path, int uid, int gid);

    [LibraryImport("libc", EntryPoint = "fchown", SetLastError = true)]
    private static partial int ChownOpen(SafeHandle file, int uid, int gid);

    [LibraryImport("libc", EntryPoint = "statx", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static unsafe partial int Statx(int directory, string path, int flags, uint mask, uint* result);

    /// <summary>Removes a name below a directory; of a link, the link itself (unlinkat(2)). Not 0 when it failed.</summary>
    [LibraryImport("libc", EntryPoint = "unlinkat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int UnlinkAt(SafeHandle directory, string name, int flags);

    /// <summary>Makes a directory below another (mkdirat(2)). Not 0 when it failed.</summary>
    [LibraryImport("libc", EntryPoint = "mkdirat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    public static partial int MakeDirectoryAt(SafeHandle directory, string name, uint mode);

    [LibraryImport("libc", EntryPoint = "rename", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int RenameFile(string path, string target);

    [LibraryImport("libc", EntryPoint = "link", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Link(string path, string target);

    [LibraryImport("libc", EntryPoint = "linkat", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int LinkAt(int directory, string path, int targetDirectory, string target, int flags);

    [LibraryImport("libc", EntryPoint = "mount", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Mount(string source, string target, string? type, nuint flags, nint data);

    [LibraryImport("libc", EntryPoint = "umount2", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Unmount(string target, int flags);

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemoryFile(string name, uint flags);

    [LibraryImport("libc", EntryPoint = "fcntl", SetLastError = true)]
    private static partial int FileControl(int descriptor, int command, int argument);

    [LibraryImport("libc", EntryPoint = "ioctl", SetLastError = true)]
    private static partial int Control(int descriptor, nuint request, nint argument);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static unsafe partial nint SendMessage(int socket, nint* message, int flags);

    [LibraryImport("libc", EntryPoint = "poll", SetLastError = true)]
    private static unsafe partial int Poll(int* descriptors, nuint count, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "syscall", SetLastError = true)]
    private static partial long Syscall(long number, long a, long b, long c, long d);

    [LibraryImport("libc", EntryPoint = "epoll_create1", SetLastError = true)]
    public static partial int EpollCreate(int flags);

    [LibraryImport("libc", EntryPoint = "epoll_ctl", SetLastError = true)]
    public static unsafe partial int EpollControl(int epoll, int operation, int fd, byte* @event);

    [LibraryImport("libc", EntryPoint = "epoll_wait", SetLastError = true)]
    public static unsafe partial int EpollWait(int epoll, byte* events, int maxEvents, int timeoutMs);

    [LibraryImport("libc", EntryPoint = "close")]
    public static partial int Close(int fd);

    [LibraryImport("libc", EntryPoint = "lseek", SetLastError = true)]
    public static partial long Seek(int fd, long offset, int whence);

    [LibraryImport("libc", EntryPoint = "ftruncate", SetLastError = true)]
    public static partial int Truncate(int fd, long length);

    [LibraryImport("libc", EntryPoint = "mmap", SetLastError = true)]
    public static partial nint Map(nint address, nint length, int protection, int flags, int fd, nint offset);

    [LibraryImport("libc", EntryPoint = "mprotect", SetLastError = true)]
    public static partial int Protect(nint address, nint length, int protection);

    [LibraryImport("libc", EntryPoint = "munmap", SetLastError = true)]
    public static partial int Unmap(nint address, nint length);
}
