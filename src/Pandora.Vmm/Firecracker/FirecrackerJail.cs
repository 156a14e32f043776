using Microsoft.Win32.SafeHandles;
using Pandora.Linux;

namespace Pandora.Vmm.Firecracker;

/// <summary>
/// The directory that the jailer makes Firecracker's root. The machine's files are linked into it, or bind-mounted where they are on
/// another file system; nothing is copied.
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

    /// <summary>What is there for this machine alone.</summary>
    public string Directory { get; } = Path.Combine(chrootBase, Path.GetFileName(binary), id);

    public string Root => Path.Combine(Directory, "root");

    public string SocketPath => Path.Combine(Root, SocketName);

    public string AgentPath => Path.Combine(Root, AgentName);

    public string PidPath => Path.Combine(Root, $"{Path.GetFileName(binary)}.pid");

    /// <summary>Makes it, with files of the machine's own for log and metrics.</summary>
    public void Create(int uid)
    {
        System.IO.Directory.CreateDirectory(Root);
        MakeFile(LogName, uid).Dispose();
        MakeFile(MetricsName, uid).Dispose();
    }

    /// <summary>Makes an empty file that the VMM can write to. The jailer gives the jail's root to the VMM, so what has that name may be
    /// its doing: it is replaced.</summary>
    public SafeFileHandle MakeFile(string name, int uid)
    {
        using var root = RootedDirectory.Open(Root);
        var file = root.Replace(name);
        Libc.ChangeOwner(file, uid);
        return file;
    }

    /// <summary>Takes a file that <see cref="MakeFile"/> made out of the jail, whatever has its name there by now. From now on nobody
    /// writes to it, and each jail that it is linked into reads it.</summary>
    /// <exception cref="IOException">The VMM has removed it.</exception>
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

    /// <summary>Puts a file into it and returns its path there.</summary>
    /// <param name="path">The file on the host.</param>
    /// <param name="name">Its name in the jail.</param>
    /// <param name="uid">Whom to give the file to; null for one that is shared and only read.</param>
    /// <exception cref="VmmException">It can be neither linked nor mounted, or the VMM could not read it.</exception>
    public string Add(string path, string name, int? uid)
    {
        if (uid is { } owner)
        {
            Libc.ChangeOwner(path, owner);
        }
        else if ((File.GetUnixFileMode(path) & UnixFileMode.OtherRead) == 0)
        {
            throw new VmmException($"{path} cannot be read by the VMM's own user: 'chmod o+r {path}' lets it");
        }

        var target = Path.Combine(Root, name);
        if (!Libc.TryLink(path, target))
        {
            File.WriteAllBytes(target, []);
            Libc.BindMount(path, target);
        }

        return $"/{name}";
    }

    /// <summary>Paths of the sockets in a jail. What the VMM has put in the place of one, such as a link, is none.</summary>
    public static IReadOnlyList<string> SocketsIn(string directory)
    {
        var root = Path.Combine(directory, "root");
        return [.. new[] { SocketName, AgentName }.Where(n => HasSocket(root, n)).Select(n => Path.Combine(root, n))];
    }

    /// <summary>Undoes it, whoever made it: mounts first.</summary>
    public void Remove() => Remove(Directory);

    /// <summary>Removes all jails under a base but those of some machines.</summary>
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
        // proc(5): the fifth field of mountinfo is the mount point, spaces in it as \040.
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
