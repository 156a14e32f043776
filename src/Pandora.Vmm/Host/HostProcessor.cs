using System.Security.Cryptography;
using System.Text;

namespace Pandora.Vmm.Host;

/// <summary>Identifies the properties of this host on which a snapshot's state depends.</summary>
internal static class HostProcessor
{
    // proc(5), cpuinfo: the fields that describe the processor and its features, without those that change all the time.
    private static readonly string[] ConstantFields =
    [
        "vendor_id",
        "model name",
        "cpu family",
        "model",
        "stepping",
        "flags",
        "CPU implementer",
        "CPU part",
        "Features",
    ];
    private static readonly Lazy<string> Processor = new(HashProcessor);

    /// <summary>
    /// Describes the processor, the rate of its time stamp counter in MHz, the kernel, and the program that is installed at this moment.
    /// </summary>
    /// <param name="program">Path or name of the VMM's binary.</param>
    public static string Identify(string program)
    {
        var path = program.Contains('/', StringComparison.Ordinal)
            ? program
            : "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
                .Split(':')
                .Select(d => Path.Combine(d, program))
                .FirstOrDefault(File.Exists)
                ?? program;
        var file = new FileInfo(path);
        file = file.Exists ? file.ResolveLinkTarget(returnFinalTarget: true) as FileInfo ?? file : file;
        var version = file.Exists ? $"{file.Length} {file.LastWriteTimeUtc.Ticks}" : "gone";
        return $"{Processor.Value} {(HostTsc.KiloHertz + 500) / 1000} MHz {Environment.OSVersion.VersionString} {version}";
    }

    private static string HashProcessor()
    {
        var ofFirst = File.ReadLines("/proc/cpuinfo").TakeWhile(l => l.Length > 0);
        var lines = ofFirst.Where(l => ConstantFields.Contains(l.Split(':')[0].Trim()));
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(string.Join('\n', lines)));
        return Convert.ToHexStringLower(hash[..8]);
    }
}
