using System.Globalization;
using Pandora.Agent.Protocol;

namespace Pandora.Agent.Control;

/// <summary>Reads what the guest uses: proc(5) and statvfs(3).</summary>
internal static class Usage
{
    // Of the line "cpu" of /proc/stat: idle and iowait are times in which the CPUs are not busy; guest times are counted in user's, too.
    private const int Idle = 3, WaitsForDisk = 4, Times = 8;

    /// <summary>Reads it now.</summary>
    public static UsageBody Read()
    {
        var stat = File.ReadAllLines("/proc/stat");
        var times = stat[0].Split(' ', StringSplitOptions.RemoveEmptyEntries).Skip(1).Take(Times).Select(ToNumber).ToArray();
        var all = times.Sum();
        var memory = File.ReadAllLines("/proc/meminfo").Select(l => l.Split(':')).ToDictionary(l => l[0], l => ToBytes(l[1]));
        var total = memory["MemTotal"];
        var disk = new DriveInfo("/");
        return new UsageBody(
            stat.Count(l => l.StartsWith("cpu", StringComparison.Ordinal)) - 1, all - times[Idle] - times[WaitsForDisk], all,
            total, total - memory["MemAvailable"], memory["Cached"], disk.TotalSize, disk.TotalSize - disk.TotalFreeSpace);
    }

    private static long ToBytes(string text) => 1024 * ToNumber(text.Trim().Split(' ')[0]);

    private static long ToNumber(string text) => long.Parse(text, CultureInfo.InvariantCulture);
}
