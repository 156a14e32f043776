using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace Pandora.Linux;

/// <summary>
/// A directory whose content is not trusted: a guest's root filesystem, a VMM's jail. No link in it leads to a file of the host, and no
/// FIFO or device in it is opened.
/// </summary>
/// <remarks>
/// openat2(2) (Linux 5.6) resolves the names: with RESOLVE_IN_ROOT a link leads where it leads for the guest, whose root is this directory.
/// When a name is written or deleted, its last part is not resolved: it is replaced or removed below its open parent. So another process
/// cannot swap a part of the name while it is used.
/// </remarks>
public sealed class RootedDirectory : IDisposable
{
    private const int WriteOnly = 1, CreateNew = 0x40 | 0x80, CloseOnExec = 0x80000, PathOnly = 0x200000;
    private const int NoMountPoints = 1, NoMagicLinks = 2, NoLinks = 4, InRoot = 16;
    internal const int NotFound = 2;
    private const int TryAgain = 11, AnotherMount = 18, NotDirectory = 20, IsDirectory = 21, Loop = 40;
    private const int PrivateFile = 0x180 /* 0600 */, PublicDirectory = 0x1ED /* 0755 */;

    // The number depends on the architecture (include/uapi/asm-generic/fcntl.h, arch/arm64/include/uapi/asm/fcntl.h).
    private static readonly int DirectoryOnly = RuntimeInformation.ProcessArchitecture == Architecture.Arm64 ? 0x4000 : 0x10000;
    private readonly SafeFileHandle _root;

    private RootedDirectory(SafeFileHandle root) => _root = root;

    /// <summary>Opens a directory by its path on the host.</summary>
    /// <exception cref="RootedPathException">There is no such directory.</exception>
    public static RootedDirectory Open(string path)
    {
        using var current = new SafeFileHandle(-100 /* AT_FDCWD */, ownsHandle: false);
        return new RootedDirectory(
            TryOpen(current, path, PathOnly | DirectoryOnly, resolve: 0, out var error) ?? throw new RootedPathException(path, error));
    }

    /// <inheritdoc/>
    public void Dispose() => _root.Dispose();

    /// <summary>Writes a file, and replaces a file, link, FIFO or device of that name. Missing directories above it are made.</summary>
    /// <param name="path">Name below this directory.</param>
    /// <param name="content">The file's whole content.</param>
    /// <param name="mode">The file's mode; the umask does not change it.</param>
    /// <exception cref="RootedPathException">The name belongs to a directory, or a part of it leads to no directory in here.</exception>
    public void WriteFile(string path, ReadOnlySpan<byte> content, UnixFileMode mode)
    {
        using var file = Replace(path);
        RandomAccess.Write(file, content, 0);
        File.SetUnixFileMode(file, mode);
    }

    /// <summary>Copies a file of the host to a name in here, and replaces what has that name, as <see cref="WriteFile"/> does.</summary>
    /// <exception cref="RootedPathException">The name belongs to a directory, or a part of it leads to no directory in here.</exception>
    public async Task CopyFileAsync(string source, string path, UnixFileMode mode, CancellationToken cancellationToken)
    {
        await using var from = File.OpenRead(source);
        using var file = Replace(path);
        await using var to = new FileStream(file, FileAccess.Write);
        await from.CopyToAsync(to, cancellationToken);
        File.SetUnixFileMode(file, mode);
    }

    /// <summary>Makes a new empty file of mode 0600 and opens it for writing. It replaces a file, link, FIFO or device of that
    /// name.</summary>
    /// <exception cref="RootedPathException">The name belongs to a directory, or a part of it leads to no directory in here.</exception>
    public SafeFileHandle Replace(string path)
    {
        var (directory, name) = Split(path);
        using var parent = OpenDirectory(directory, isMade: true)!;
        Remove(parent, name, path);
        return TryOpen(parent, name, CreateNew | WriteOnly, InRoot, out var error) ?? throw new RootedPathException(path, error);
    }

    /// <summary>Opens an existing file. A link is followed to where it leads in here. A directory, a FIFO or a device is refused without
    /// being opened.</summary>
    /// <param name="path">Name below this directory.</param>
    /// <param name="access">Access to the file.</param>
    /// <param name="isOwn">Whether to refuse also what may be another file under this name: a link, a file with more than one name, and a
    /// mounted file.</param>
    /// <exception cref="RootedPathException">There is no such file.</exception>
    public SafeFileHandle OpenFile(string path, FileAccess access = FileAccess.Read, bool isOwn = false)
    {
        using var found = TryOpen(_root, path, PathOnly, isOwn ? InRoot | NoLinks | NoMountPoints : InRoot | NoMagicLinks, out var error)
            ?? throw new RootedPathException(path, error);
        var status = FileStatus.Of(found);
        if (!status.IsRegular || (isOwn && status.Names != 1))
        {
            throw new RootedPathException(path, status.IsRegular ? "has another name as well" : "is no regular file");
        }

        // Open by the descriptor: this is the file that was checked, even if another file has its name by now.
        return File.OpenHandle(FileStatus.PathOf(found), FileMode.Open, access, FileShare.ReadWrite | FileShare.Delete);
    }

    /// <summary>Opens a socket file, so that the caller can connect to it. A link in its place is refused.</summary>
    /// <param name="path">Name below this directory.</param>
    /// <exception cref="RootedPathException">There is no such socket.</exception>
    public SafeFileHandle OpenSocket(string path)
    {
        var found = TryOpen(_root, path, PathOnly, InRoot | NoLinks | NoMountPoints, out var error)
            ?? throw new RootedPathException(path, error);
        if (FileStatus.Of(found).IsSocket)
        {
            return found;
        }

        found.Dispose();
        throw new RootedPathException(path, "is no socket");
    }

    /// <summary>Removes a file, a link, a FIFO or a device, if it exists.</summary>
    /// <exception cref="RootedPathException">The name belongs to a directory, or a part of it leads to no directory in here.</exception>
    public void Delete(string path)
    {
        var (directory, name) = Split(path);
        using var parent = OpenDirectory(directory, isMade: false);
        if (parent is not null)
        {
            Remove(parent, name, path);
        }
    }

    /// <summary>Removes all entries of a directory, except directories.</summary>
    /// <exception cref="RootedPathException">The name leads to no directory in here.</exception>
    public void DeleteFiles(string path)
    {
        using var directory = OpenDirectory(path, isMade: false);
        if (directory is null)
        {
            return;
        }

        foreach (var name in Directory.GetFileSystemEntries(FileStatus.PathOf(directory)).Select(Path.GetFileName).OfType<string>())
        {
            if (Libc.UnlinkAt(directory, name, 0) != 0 && Marshal.GetLastPInvokeError() is not (IsDirectory or NotFound) and var error)
            {
                throw new RootedPathException($"{path}/{name}", error);
            }
        }
    }

    /// <summary>Makes a directory and the directories above it. An existing link to a directory in here is accepted.</summary>
    /// <exception cref="RootedPathException">A part of its name leads to no directory in here.</exception>
    public void CreateDirectory(string path) => OpenDirectory(path, isMade: true)!.Dispose();

    // Opens each part from the top, so that the error names the part that is wrong. Null when the directory does not exist.
    private SafeFileHandle? OpenDirectory(string path, bool isMade)
    {
        var parts = path.Split('/', StringSplitOptions.RemoveEmptyEntries);
        var last = TryOpen(_root, ".", PathOnly | DirectoryOnly, InRoot, out var error) ?? throw new RootedPathException(path, error);
        for (var i = 0; i < parts.Length; i++)
        {
            using var parent = last;
            var part = string.Join('/', parts[..(i + 1)]);
            var found = TryOpen(_root, part, PathOnly | DirectoryOnly, InRoot | NoMagicLinks, out error);
            if (found is null && error == NotFound && !HasEntry(parent, parts[i]))
            {
                if (!isMade)
                {
                    return null;
                }

                if (Libc.MakeDirectoryAt(parent, parts[i], PublicDirectory) != 0)
                {
                    throw new RootedPathException(part, Marshal.GetLastPInvokeError());
                }

                found = TryOpen(parent, parts[i], PathOnly | DirectoryOnly, InRoot | NoLinks, out error);
            }

            last = found ?? throw new RootedPathException(part, error);
        }

        return last;
    }

    // A link that leads nowhere is an entry, too.
    private static bool HasEntry(SafeFileHandle directory, string name)
    {
        using var entry = TryOpen(directory, name, PathOnly, InRoot | NoLinks, out var error);
        return error != NotFound;
    }

    private static void Remove(SafeFileHandle parent, string name, string path)
    {
        if (Libc.UnlinkAt(parent, name, 0) != 0 && Marshal.GetLastPInvokeError() is not NotFound and var error)
        {
            throw new RootedPathException(path, error);
        }
    }

    private static SafeFileHandle? TryOpen(SafeFileHandle directory, string path, int flags, int resolve, out int error)
    {
        for (var tries = 0; ; tries++)
        {
            var descriptor = Libc.OpenAt(directory, path, flags | CloseOnExec, (flags & CreateNew) == 0 ? 0 : PrivateFile, resolve);
            error = descriptor >= 0 ? 0 : Marshal.GetLastPInvokeError();
            // The kernel answers EAGAIN when a process renamed a directory meanwhile.
            if (error != TryAgain || tries == 64)
            {
                return descriptor >= 0 ? new SafeFileHandle(descriptor, ownsHandle: true) : null;
            }
        }
    }

    private static (string Directory, string Name) Split(string path) =>
        path.LastIndexOf('/') is >= 0 and var slash ? (path[..slash], path[(slash + 1)..]) : ("", path);

    internal static string Describe(int error) => error switch
    {
        NotFound => "does not exist, or is a link that leads nowhere",
        NotDirectory => "is no directory",
        IsDirectory => "is a directory",
        Loop => "is a link, or its links form a loop",
        AnotherMount => "is on another file system",
        38 /* ENOSYS */ => "cannot be opened safely: this kernel has no openat2, which needs Linux 5.6",
        _ => Marshal.GetPInvokeErrorMessage(error),
    };
}

/// <summary>A name in a <see cref="RootedDirectory"/> does not exist, or is of another type than expected.</summary>
public sealed class RootedPathException : IOException
{
    internal RootedPathException(string path, string words)
        : base($"/{path.TrimStart('/')} {words}")
    {
    }

    internal RootedPathException(string path, int error)
        : this(path, RootedDirectory.Describe(error)) => HResult = error;

    /// <summary>Whether the name does not exist.</summary>
    public bool IsMissing => HResult == RootedDirectory.NotFound;
}
