using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Pandora.HostTests.World;

/// <summary>A job in the background begins with SIGINT ignored, and so does all that it starts. Several tests send it: they begin with what
/// a terminal gives.</summary>
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
