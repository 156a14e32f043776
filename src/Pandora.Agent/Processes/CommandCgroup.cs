using System.Globalization;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Processes;

/// <summary>The cgroup of one process and of all that it starts (cgroup v2). A guest without cgroup v2 has none.</summary>
internal sealed class CommandCgroup
{
    private const string Root = "/sys/fs/cgroup/exec";
    private readonly string _path;
    private bool _isRemoved;

    private CommandCgroup(string path, int directory) => (_path, Directory) = (path, directory);

    /// <summary>Descriptor of its directory, until the process has started.</summary>
    public int Directory { get; private set; }

    /// <summary>Makes the cgroup of a process.</summary>
    /// <returns>Null when the guest has no cgroup v2.</returns>
    public static CommandCgroup? Create(string name)
    {
        var path = $"{Root}/{name}";
        if (!Linux.MakeDirectory(path))
        {
            return null;
        }

        var directory = Linux.TryOpenDirectory(path);
        return directory < 0 ? null : new CommandCgroup(path, directory);
    }

    /// <summary>
    /// Opens the cgroup of all SSH servers and of what users start in their sessions, which the agent never kills. Ids of processes have no
    /// hyphen.
    /// </summary>
    /// <returns>Descriptor of its directory; -1 when the guest has no cgroup v2.</returns>
    /// <exception cref="RequestFailedException">The guest's root has frozen it: a process that is started there does not run.</exception>
    public static int OpenForSsh()
    {
        const string Path = $"{Root}/ssh-servers";
        Linux.MakeDirectory(Path);
        var directory = Linux.TryOpenDirectory(Path);
        if (directory >= 0 && new CommandCgroup(Path, directory).IsFrozen())
        {
            Linux.Close(directory);
            throw new RequestFailedException(FailureKind.Guest, "the guest's root has frozen the cgroup of the SSH servers");
        }

        return directory;
    }

    /// <summary>Removes the empty cgroups of an agent that died. Those with processes stay: their end is not known.</summary>
    public static void RemoveEmpty()
    {
        try
        {
            foreach (var path in System.IO.Directory.GetDirectories(Root))
            {
                Linux.RemoveDirectory(path);
            }
        }
        catch (IOException)
        {
            // There is no cgroup v2.
        }
    }

    /// <summary>Closes the descriptor: the process has been started.</summary>
    public void CloseDirectory()
    {
        Linux.Close(Directory);
        Directory = -1;
    }

    /// <summary>Opens the file that tells, by a priority event, when the last process has ended; negative when it cannot be.</summary>
    public int OpenEvents() => Linux.TryOpen($"{_path}/cgroup.events");

    /// <summary>Whether a process is in the cgroup. A cgroup that cannot be read is not reported as empty.</summary>
    public bool IsPopulated() => !_isRemoved && ReadNumber("cgroup.events", "populated ") != 0;

    /// <summary>The same, from the file of <see cref="OpenEvents"/>: only this makes the file wait for the next change.</summary>
    public static bool IsPopulated(int events)
    {
        Span<byte> bytes = stackalloc byte[128];
        var count = Linux.ReadAt(events, bytes, 0);
        return count < 0 || bytes[..count].IndexOf("populated 0"u8) < 0;
    }

    /// <summary>Whether processes in the cgroup do not run, because the guest's root has frozen one that it is in.</summary>
    public bool IsFrozen() => ReadNumber("cgroup.events", "frozen ") == 1;

    /// <summary>Kills every process in the cgroup.</summary>
    public void Kill()
    {
        var file = Linux.TryOpen($"{_path}/cgroup.kill", isWritten: true);
        if (file >= 0)
        {
            Linux.WriteSome(file, "1"u8);
            Linux.Close(file);
        }
    }

    /// <summary>The memory limit in bytes, when the memory killer has killed a process of the cgroup; else 0.</summary>
    public long FindOomLimit()
    {
        if (ReadNumber("memory.events", "oom_kill ") is null or 0)
        {
            return 0;
        }

        var isLimited = long.TryParse(Read("memory.max"), NumberStyles.None, CultureInfo.InvariantCulture, out var limit);
        return isLimited ? limit : GuestMemory.Total;
    }

    /// <summary>Removes the cgroup with those that were made in it.</summary>
    /// <returns>False when a process is in it.</returns>
    public bool TryRemove() => _isRemoved |= TryRemove(_path);

    private static bool TryRemove(string path)
    {
        if (Linux.RemoveDirectory(path))
        {
            return true;
        }

        try
        {
            return System.IO.Directory.GetDirectories(path) is { Length: > 0 } inner && inner.All(TryRemove) && Linux.RemoveDirectory(path);
        }
        catch (IOException)
        {
            return false;
        }
    }

    private long? ReadNumber(string file, string name)
    {
        var text = Read(file);
        var at = text.IndexOf(name, StringComparison.Ordinal);
        return at < 0 ? null : long.Parse(text[(at + name.Length)..].Split('\n')[0], CultureInfo.InvariantCulture);
    }

    private string Read(string file)
    {
        Span<byte> bytes = stackalloc byte[512];
        var descriptor = Linux.TryOpen($"{_path}/{file}");
        if (descriptor < 0)
        {
            return "";
        }

        var count = Linux.Read(descriptor, bytes);
        Linux.Close(descriptor);
        return System.Text.Encoding.ASCII.GetString(bytes[..Math.Max(0, count)]).TrimEnd();
    }
}

/// <summary>The guest's memory.</summary>
internal static class GuestMemory
{
    /// <summary>All of it, in bytes (<c>/proc/meminfo</c>).</summary>
    public static long Total { get; } = ReadTotal();

    private static long ReadTotal()
    {
        const string Name = "MemTotal:";
        var line = File.ReadLines("/proc/meminfo").First(l => l.StartsWith(Name, StringComparison.Ordinal));
        return 1024 * long.Parse(line[Name.Length..].Replace("kB", "", StringComparison.Ordinal).Trim(), CultureInfo.InvariantCulture);
    }
}
