using System.Text;

namespace Pandora.Agent.Processes;

/// <summary>
/// The variable in the environment of every process that a command starts. It finds processes that root moved out of the command's cgroup.
/// The name does not begin with PANDORA_, because a Pandora server that runs in a sandbox refuses settings that it does not know.
/// </summary>
internal static class CommandMark
{
    public const string Variable = "__PANDORA_COMMAND";
    private const int MaxEnvironment = 256 * 1024;

    /// <summary>The pids of the processes that bear the mark of a command.</summary>
    public static List<int> Find(string id)
    {
        // Each variable ends with a zero byte, and so does the one before.
        var mark = Encoding.UTF8.GetBytes($"\0{Variable}={id}\0");
        var buffer = new byte[MaxEnvironment];
        List<int> found = [];
        foreach (var process in Directory.GetDirectories("/proc"))
        {
            if (int.TryParse(Path.GetFileName(process), out var pid) && Bears(process, mark, buffer))
            {
                found.Add(pid);
            }
        }

        return found;
    }

    private static bool Bears(string process, byte[] mark, byte[] buffer)
    {
        var file = Linux.TryOpen($"{process}/environ");
        if (file < 0)
        {
            // It has ended.
            return false;
        }

        var length = 0;
        for (int count; length < buffer.Length && (count = Linux.Read(file, buffer.AsSpan(length))) > 0;)
        {
            length += count;
        }

        Linux.Close(file);
        var environment = buffer.AsSpan(0, length);
        return environment.StartsWith(mark.AsSpan(1)) || environment.IndexOf(mark) >= 0;
    }
}
