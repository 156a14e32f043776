using System.Diagnostics;

namespace Pandora.Linux;

/// <summary>Prevents children from inheriting the server's open files: a child gets descriptors 0 to 2, and files that its launcher opens
/// for it.</summary>
public static class Descriptors
{
    // Held while a native library opens files, and while a child is started: these must not happen at the same time.
    private static readonly Lock Gate = new();

    /// <summary>Marks all open descriptors, also inherited ones, to be closed in children.</summary>
    public static void SetCloseOnExec()
    {
        lock (Gate)
        {
            Libc.CloseOnExec(3);
        }
    }

    /// <summary>Runs code of a native library that opens files without that mark, and marks them afterwards.</summary>
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

    /// <summary>Starts a child that inherits no open file of the server.</summary>
    /// <exception cref="System.ComponentModel.Win32Exception">The child could not be started.</exception>
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
