using Microsoft.Win32.SafeHandles;
using Pandora.Linux;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// The directory that the jailer makes Firecracker's root directory. The machine's files are linked into it, or bind-mounted if they are on
/// another file system; they are not copied.
/// </summary>
/// <remarks>Layout: Firecracker's docs/jailer.md: <c>BASE/EXEC_FILE_NAME/ID/root</c>.</remarks>
internal sealed class FirecrackerJail(string chrootBase, string binary, string id)
{
    public const string SocketName = "run/firecracker.sock",
        LogName = "firecracker.log",
        MetricsName = "firecracker.metrics",
        AgentName = "run/agent.sock",
        StateName = "state",
        MemoryName = "memory";

    /// <summary>The directory that only this machine uses.</summary>
    public string Directory { get; } = Path.Combine(chrootBase, Path.GetFileName(binary), id);

    public string Root => Path.Combine(Directory, "root");

    public string SocketPath => Path.Combine(Root, SocketName);

    public string AgentPath => Path.Combine(Root, AgentName);

    public string PidPath => Path.Combine(Root, $"{Path.GetFileName(binary)}.pid");

    /// <summary>Makes the jail, with files for the machine's log and metrics.</summary>
    public void Create(int uid)
    {
        System.IO.Directory.CreateDirectory(Root);
        MakeFile(LogName, uid).Dispose();
        MakeFile(MetricsName, uid).Dispose();
    }

    /// <summary>
    /// Makes an empty file to which the VMM can write. The jailer gives the jail's root directory to the VMM, so the VMM may have put
    /// something at that name: it is replaced.
    /// </summary>
    public SafeFileHandle MakeFile(string name, int uid)
    {
        using var root = RootedDirectory.Open(Root);
        var file = root.Replace(name);
        Libc.ChangeOwner(file, uid);
        return file;
    }

    /// <summary>
    /// Moves a file that <see cref="MakeFile"/> made out of the jail, even if the VMM has put something else at its name. From then on no
    /// process can write to the file, and each jail into which it is linked can read it.
    /// </summary>
    /// <exception cref="IOException">The VMM has removed the file.</exception>
    public void TakeFile(SafeFileHandle file, string name, string target)
    {
        Libc.ChangeOwner(file, 0);
        File.Delete(target);
        if (!Libc.TryLink(file, target))
        {
            SparseFile.Copy(FileStatus.PathOf(file), target);
        }

        File.SetUnixFileMode(target, UnixFileMode.UserRead | UnixFileMode.UserWrite | UnixFileMode.GroupRead | UnixFileMode.OtherRead);
        using var root = RootedDirectory.Open(Root);
        root.Delete(name);
    }

    /// <summary>Links or mounts a file into the jail and returns its path there.</summary>
    /// <param name="path">The file on the host.</param>
    /// <param name="name">Its name in the jail.</param>
    /// <param name="uid">The file's new owner; null for a file that is shared and only read.</param>
    /// <exception cref="VmmException">The file can be neither linked nor mounted, or the VMM could not read it.</exception>
    public string Add(string path, string name, int? uid)
    {
        if (uid is { } owner)
        {
            Libc.ChangeOwner(path, owner);
        }
        else if ((File.GetUnixFileMode(path) & UnixFileMode.OtherRead) == 0)
        {
            throw new VmmException($"the VMM's user cannot read {path}: run 'chmod o+r {path}'");
        }

        var target = Path.Combine(Root, name);
        if (!Libc.TryLink(path, target))
        {
            File.WriteAllBytes(target, []);
            Libc.BindMount(path, target);
        }

        return $"/{name}";
    }

    /// <summary>Paths of the sockets in a jail. A link or file that the VMM has put in the place of a socket is ignored.</summary>
    public static IReadOnlyList<string> SocketsIn(string directory)
    {
        var root = Path.Combine(directory, "root");
        return [.. new[] { SocketName, AgentName }.Where(n => HasSocket(root, n)).Select(n => Path.Combine(root, n))];
    }

    /// <summary>Removes the jail, whichever server made it: first the mounts, then the directory.</summary>
    public void Remove() => Remove(Directory);

    /// <summary>Removes all jails under a base directory except those of some machines.</summary>
    public static void RemoveAll(string chrootBase, IReadOnlySet<string> living)
    {
        foreach (var binary in System.IO.Directory.Exists(chrootBase) ? System.IO.Directory.GetDirectories(chrootBase) : [])
        {
            foreach (var jail in System.IO.Directory.GetDirectories(binary).Where(d => !living.Contains(Path.GetFileName(d))))
            {
                Remove(jail);
            }
        }
    }

    private static bool HasSocket(string directory, string name)
    {
        try
        {
            using var root = RootedDirectory.Open(directory);
            using var socket = root.OpenSocket(name);
            return true;
        }
        catch (RootedPathException)
        {
            return false;
        }
    }

    private static void Remove(string directory)
    {
        // proc(5): the fifth field of mountinfo is the mount point, with spaces written as \040.
        var mounts = File.ReadLines("/proc/self/mountinfo")
            .Select(l => l.Split(' ')[4].Replace("\\040", " ", StringComparison.Ordinal))
            .Where(m => m.StartsWith(directory + "/", StringComparison.Ordinal))
            .ToList();
        foreach (var mount in Enumerable.Reverse(mounts))
        {
            Libc.Unmount(mount);
        }

        if (System.IO.Directory.Exists(directory))
        {
            System.IO.Directory.Delete(directory, recursive: true);
        }
    }
}
