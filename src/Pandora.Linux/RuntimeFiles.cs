using System.Globalization;

namespace Pandora.Linux;

/// <summary>The sockets and pipes in /tmp by which .NET's debuggers reach a process. The runtime removes them only at an orderly exit. This
/// class removes them so that none remains after another exit.</summary>
public static class RuntimeFiles
{
    /// <summary>Removes the files of a process; does nothing when there are none. After that, debuggers cannot reach the process.</summary>
    /// <param name="pid">Process id.</param>
    /// <param name="startTime">The process's start time in clock ticks since boot, which is in the names (dotnet/runtime, PAL:
    /// GetProcessIdDisambiguationKey).</param>
    public static void Remove(int pid, long startTime)
    {
        var directory = Environment.GetEnvironmentVariable("TMPDIR") is { Length: > 0 } set ? set : "/tmp";
        var name = string.Create(CultureInfo.InvariantCulture, $"{pid}-{startTime}");
        foreach (var file in new[] { $"dotnet-diagnostic-{name}-socket", $"clr-debug-pipe-{name}-in", $"clr-debug-pipe-{name}-out" })
        {
            File.Delete(Path.Combine(directory, file));
        }
    }

    /// <summary>Removes the files of this process, unless the user asked for them (<c>DOTNET_EnableDiagnostics=1</c>).</summary>
    public static void RemoveOwn()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_EnableDiagnostics") != "1"
            && ProcessHandle.StartTimeOf(Environment.ProcessId) is { } startTime)
        {
            Remove(Environment.ProcessId, startTime);
        }
    }
}
