using System.Diagnostics;

namespace Pandora.Linux;

/// <summary>Keeps the server's open files from its children: a child gets descriptors 0 to 2, and what its launcher opens for it.</summary>
public static class Descriptors
{
    // Opening files that .NET does not know of and starting a child exclude each other.
    private static readonly Lock Gate = new();

    /// <summary>Marks all that is open now, what was inherited too, to be closed in children.</summary>
    public static void SetCloseOnExec()
    {
        lock (Gate)
        {
            Libc.CloseOnExec(3);
        }
    }

    /// <summary>Runs foreign code that opens files without that mark.</summary>
    public static T Open<T>(Func<T> open)
    {
        ArgumentNullException.ThrowIfNull(open);
        lock (Gate)
        {
            var result = open();
            Libc.CloseOnExec(3);
            return result;
        }
    }

    /// <summary>Starts a child with nothing of the server's.</summary>
    /// <exception cref="System.ComponentModel.Win32Exception">It could not be started.</exception>
    public static bool Start(Process process)
    {
        ArgumentNullException.ThrowIfNull(process);
        lock (Gate)
        {
            Libc.CloseOnExec(3);
            return process.Start();
        }
    }
}
