using Pandora.Linux;

namespace Pandora.Engine.Recovery;

/// <summary>
/// Finds the processes in a slot's network namespace. The kernel shows a namespace as a file, whose inode number identifies it.
/// </summary>
internal static class SlotNamespaces
{
    /// <summary>Whether a process is in a namespace.</summary>
    public static bool IsIn(int pid, string name) =>
        NumberOf($"{HostNames.NamespaceDirectory}/{name}") is { } number && NumberOf($"/proc/{pid}/ns/net") == number;

    /// <summary>The first process in a namespace; null when there is none.</summary>
    public static int? FindProcess(string name)
    {
        if (NumberOf($"{HostNames.NamespaceDirectory}/{name}") is not { } number)
        {
            return null;
        }

        foreach (var directory in Directory.GetDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(directory), out var pid) && NumberOf($"{directory}/ns/net") == number)
            {
                return pid;
            }
        }

        return null;
    }

    private static (ulong, ulong)? NumberOf(string path)
    {
        try
        {
            return FileStatus.FindTarget(path) is { } status ? (status.Device, status.Inode) : null;
        }
        catch (IOException)
        {
            // The process ended during the check, or is a kernel thread.
            return null;
        }
    }
}
