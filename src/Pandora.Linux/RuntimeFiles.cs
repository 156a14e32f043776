using System.Globalization;

namespace Pandora.Linux;

/// <summary>The sockets and pipes in /tmp by which .NET's debuggers reach a process. The runtime removes them at an orderly end only, and
/// nothing of the server's is to be left by any other.</summary>
public static class RuntimeFiles
{
    /// <summary>Removes those of a process; does nothing when there are none. Its diagnostics are off from then on.</summary>
    /// <param name="pid">Process id.</param>
    /// <param name="startTime">Its start in clock ticks since boot, which is in their names (dotnet/runtime, PAL:
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

    /// <summary>Removes this process's own, unless the user wants them (<c>DOTNET_EnableDiagnostics=1</c>).</summary>
    public static void RemoveOwn()
    {
        if (Environment.GetEnvironmentVariable("DOTNET_EnableDiagnostics") != "1"
            && ProcessHandle.StartTimeOf(Environment.ProcessId) is { } startTime)
        {
            Remove(Environment.ProcessId, startTime);
        }
    }
}
