using System.Runtime.InteropServices;

namespace Pandora.Agent.Files;

/// <content>The C library's functions.</content>
internal static unsafe partial class FileCalls
{
    [LibraryImport("libc", SetLastError = true)]
    private static partial int openat(int directory, byte* name, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int statx(int directory, byte* name, int flags, uint mask, byte* status);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint readlinkat(int directory, byte* name, byte* target, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mkdirat(int directory, byte* name, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int mknodat(int directory, byte* name, uint mode, ulong device);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int symlinkat(byte* target, int directory, byte* name);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int linkat(int from, byte* name, int to, byte* newName, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int unlinkat(int directory, byte* name, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int renameat2(int from, byte* name, int to, byte* newName, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fchownat(int directory, byte* name, uint user, uint group, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int chmod(byte* name, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int utimensat(int directory, byte* name, long* times, int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint read(int descriptor, byte* bytes, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint write(int descriptor, byte* bytes, nuint count);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint lseek(int descriptor, long offset, int way);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int ftruncate(int descriptor, long size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint getdents64(int descriptor, byte* entries, nuint size);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int fstatfs(int descriptor, void* status);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int inotify_init1(int flags);

    [LibraryImport("libc", SetLastError = true)]
    private static partial int inotify_add_watch(int inotify, byte* name, uint events);

    [LibraryImport("libc")]
    private static partial int inotify_rm_watch(int inotify, int watch);

    [LibraryImport("libc")]
    private static partial int poll(int* descriptors, nuint count, int milliseconds);
}
