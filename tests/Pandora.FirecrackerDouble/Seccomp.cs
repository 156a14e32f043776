using System.Runtime.InteropServices;

namespace Pandora.FirecrackerDouble;

/// <summary>Installs a filter that allows every call (seccomp(2)). The driver checks that the process has a filter.</summary>
internal static unsafe partial class Seccomp
{
    public static void AllowEverything()
    {
        // struct sock_filter: BPF_RET | BPF_K with SECCOMP_RET_ALLOW; struct sock_fprog: length, padding, filter.
        var filter = 0x7FFF0000_0000_0006;
        var program = stackalloc nint[2] { 1, (nint)(&filter) };
        // PR_SET_NO_NEW_PRIVS, then PR_SET_SECCOMP with SECCOMP_MODE_FILTER.
        if (Control(38, 1, null, 0, 0) != 0 || Control(22, 2, program, 0, 0) != 0)
        {
            throw new InvalidOperationException($"no seccomp filter: error {Marshal.GetLastPInvokeError()}");
        }
    }

    [LibraryImport("libc", EntryPoint = "prctl", SetLastError = true)]
    private static partial int Control(int operation, nuint argument, void* pointer, nuint third, nuint fourth);
}
