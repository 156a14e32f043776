using System.Runtime.InteropServices;
using System.Text.Json.Serialization;

namespace Pandora.Load;

/// <summary>The machine on which figures were measured.</summary>
/// <param name="System">Operating system and kernel.</param>
/// <param name="Architecture">Such as <c>x64</c>.</param>
/// <param name="Processor">The processor's model name; <c>unknown</c> where the system does not report it.</param>
/// <param name="Processors">Number of processors that this process may use.</param>
/// <param name="MemoryMiB">Memory in MiB.</param>
public sealed record Machine(
    string System, string Architecture, string Processor, int Processors, [property: JsonPropertyName("memory_mib")] long MemoryMiB)
{
    /// <summary>Describes this machine.</summary>
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
