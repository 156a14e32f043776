using System.Runtime.InteropServices;
using Pandora.Agent.Processes;
using Pandora.Agent.Protocol.Files;

namespace Pandora.Agent.Files;

/// <summary>
/// Whose rights a thread has. The C library's functions would change all threads, so the kernel is called itself (nptl(7), "C
/// library/kernel differences").
/// </summary>
internal static unsafe partial class Identity
{
    private const uint CapabilityVersion = 0x20080522; // _LINUX_CAPABILITY_VERSION_3
    private static readonly bool s_isX64 = RuntimeInformation.ProcessArchitecture == Architecture.X64;

    /// <summary>
    /// Gives the calling thread the rights of a user for files, and takes all others from it. It never gets its own back, so it must end
    /// with the request.
    /// </summary>
    /// <exception cref="FileFailedException">It cannot: the agent is not root, and the user is another.</exception>
    public static void Take(Account account)
    {
        var own = geteuid();
        if (own != 0)
        {
            if (account.User != own)
            {
                throw new FileFailedException(FileFailureKind.Denied, "the agent is not root, so it can act for its own user only");
            }

            return;
        }

        fixed (uint* groups = account.Groups)
        {
            if (syscall(s_isX64 ? 116 : 159, account.Groups.Length, (nint)groups) < 0)
            {
                throw new FileFailedException(FileFailureKind.User, $"'{account.Name}' has groups that cannot be set");
            }
        }

        // Neither tells an error: they return what was set before.
        const nint None = -1;
        syscall(s_isX64 ? 123 : 152, (nint)account.Group, 0);
        syscall(s_isX64 ? 122 : 151, (nint)account.User, 0);
        if ((uint)syscall(s_isX64 ? 123 : 152, None, 0) != account.Group || (uint)syscall(s_isX64 ? 122 : 151, None, 0) != account.User)
        {
            throw new FileFailedException(FileFailureKind.User, $"'{account.Name}' cannot be set");
        }

        if (account.User == 0)
        {
            return;
        }

        var header = stackalloc uint[2] { CapabilityVersion, 0 };
        var none = stackalloc uint[6] { 0, 0, 0, 0, 0, 0 };
        if (syscall(s_isX64 ? 126 : 91, (nint)header, (nint)none) < 0)
        {
            throw new FileFailedException(FileFailureKind.Guest, "the rights of root cannot be taken from the thread");
        }
    }

    /// <summary>The user whose rights for files the calling thread has.</summary>
    public static uint Current => (uint)syscall(s_isX64 ? 122 : 151, -1, 0);

    /// <summary>Ends the precedence that the thread has from the one that started it.</summary>
    public static void LeavePrecedence()
    {
        // SCHED_OTHER.
        var priority = 0;
        _ = sched_setscheduler(0, 0, &priority);
    }

    [LibraryImport("libc")]
    private static partial uint geteuid();

    [LibraryImport("libc", SetLastError = true)]
    private static partial nint syscall(nint number, nint first, nint second);

    [LibraryImport("libc")]
    private static partial int sched_setscheduler(int thread, int policy, int* priority);
}
