using System.Runtime.InteropServices;
using System.Text.Json.Serialization;

namespace Pandora.Load;

/// <summary>The machine that figures come from.</summary>
/// <param name="System">Operating system and kernel.</param>
/// <param name="Architecture">Such as <c>x64</c>.</param>
/// <param name="Processor">The processor's own name, where the system tells it.</param>
/// <param name="Processors">How many may be used.</param>
/// <param name="MemoryMiB">Memory in MiB.</param>
public sealed record Machine(
    string System, string Architecture, string Processor, int Processors, [property: JsonPropertyName("memory_mib")] long MemoryMiB)
{
    /// <summary>This one.</summary>
    public static Machine Describe() =>
        new(
            $"{RuntimeInformation.OSDescription}, kernel {Environment.OSVersion.Version}",
            RuntimeInformation.ProcessArchitecture.ToString().ToLowerInvariant(),
            ProcessorName(),
            Environment.ProcessorCount,
            GC.GetGCMemoryInfo().TotalAvailableMemoryBytes / (1024 * 1024));

    private static string ProcessorName()
    {
        const string CpuInfo = "/proc/cpuinfo";
        var line = File.Exists(CpuInfo)
            ? File.ReadLines(CpuInfo).FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))
            : null;
        return line?.Split(':', 2)[1].Trim() ?? "unknown";
    }
}
