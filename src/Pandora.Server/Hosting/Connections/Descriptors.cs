using System.ComponentModel;
using System.Runtime.InteropServices;

namespace Pandora.Server.Hosting.Connections;

/// <summary>
/// Reads how many descriptors this process may have open: getrlimit(2), RLIMIT_NOFILE. The runtime raises the soft limit to the hard limit
/// when it starts.
/// </summary>
internal static partial class Descriptors
{
    // include/uapi/asm-generic/resource.h
    private const int NoFile = 7;

    /// <summary>The current limit: another program can change it while this process runs (prlimit(2)).</summary>
    public static int Limit => GetLimit(NoFile, out var limit) == 0
        ? (int)Math.Min(limit.Soft, int.MaxValue)
        : throw new Win32Exception(Marshal.GetLastPInvokeError());

    [LibraryImport("libc", EntryPoint = "getrlimit", SetLastError = true)]
    private static partial int GetLimit(int resource, out ResourceLimit limit);

    [StructLayout(LayoutKind.Sequential)]
    private readonly struct ResourceLimit
    {
        public readonly nuint Soft;
        public readonly nuint Hard;
    }
}
