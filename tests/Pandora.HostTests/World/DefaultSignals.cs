using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pandora.HostTests.World;

/// <summary>
/// Sets SIGINT and SIGQUIT to their default action, as in a terminal. A background job ignores SIGINT, and so do its children, but several
/// tests send it.
/// </summary>
internal static partial class DefaultSignals
{
    private const int Interrupt = 2, Quit = 3;

    [ModuleInitializer]
    internal static void Set()
    {
        _ = Signal(Interrupt, 0);
        _ = Signal(Quit, 0);
    }

    // SIG_DFL is 0.
    [LibraryImport("libc", EntryPoint = "signal")]
    private static partial nint Signal(int signal, nint handler);
}
