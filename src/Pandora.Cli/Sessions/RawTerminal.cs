using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Pandora.Contracts;

namespace Pandora.Cli.Sessions;

/// <summary>
/// This program's terminal, passing on each key as it is, until it is disposed. The C library knows the settings' layout, which differs
/// between systems: termios(3), cfmakeraw.
/// </summary>
internal sealed partial class RawTerminal : IDisposable
{
    // More than a struct termios has on Linux (60 bytes) and on macOS (72).
    private const int SettingsSize = 256;
    private const int Drained = 1;
    private static readonly TerminalSize UsualSize = new(80, 24);
    private readonly byte[] _before, _raw;
    private readonly List<PosixSignalRegistration> _registrations = [];
    private int _isRestored;

    private RawTerminal(byte[] before, byte[] raw) => (_before, _raw) = (before, raw);

    /// <summary>Whether standard input is a terminal.</summary>
    public static bool IsThere => IsTerminal(0) == 1;

    /// <summary>Sets it.</summary>
    /// <param name="resized">Is called when its size may have changed.</param>
    public static RawTerminal Enter(Action resized)
    {
        // .NET notes the settings at the first use of its console, and sets them again at the program's end: they must be the usual ones.
        Console.Error.Flush();
        var before = new byte[SettingsSize];
        if (GetSettings(0, before) != 0)
        {
            throw new IOException("standard input: the settings of the terminal cannot be read");
        }

        var raw = before.ToArray();
        MakeRaw(raw);
        var terminal = new RawTerminal(before, raw);
        AppDomain.CurrentDomain.UnhandledException += terminal.OnDefect;
        terminal._registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGWINCH, _ => resized()));
        terminal._registrations.Add(PosixSignalRegistration.Create(PosixSignal.SIGCONT, _ =>
        {
            // A shell that stopped this program has set the terminal as it needs it.
            terminal.Set(terminal._raw);
            resized();
        }));
        terminal.Set(raw);
        return terminal;
    }

    /// <summary>Its size now. The program stty knows it on each system.</summary>
    public static async Task<TerminalSize> MeasureAsync()
    {
        try
        {
            using var process = Process.Start(new ProcessStartInfo("sh", ["-c", "stty size < /dev/tty"])
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            })!;
            var words = (await process.StandardOutput.ReadToEndAsync()).Split(' ', StringSplitOptions.TrimEntries);
            await process.WaitForExitAsync();
            return words is [var rows, var columns]
                && ushort.TryParse(rows, CultureInfo.InvariantCulture, out var r) && r > 0
                && ushort.TryParse(columns, CultureInfo.InvariantCulture, out var c) && c > 0
                ? new TerminalSize(c, r)
                : UsualSize;
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return UsualSize;
        }
    }

    /// <summary>Restores it.</summary>
    public void Dispose()
    {
        _registrations.ForEach(r => r.Dispose());
        AppDomain.CurrentDomain.UnhandledException -= OnDefect;
        if (Interlocked.Exchange(ref _isRestored, 1) == 0)
        {
            _ = SetSettings(0, Drained, _before);
        }
    }

    private void OnDefect(object sender, UnhandledExceptionEventArgs e) => Dispose();

    private void Set(byte[] settings)
    {
        if (Volatile.Read(ref _isRestored) == 0)
        {
            _ = SetSettings(0, Drained, settings);
        }
    }

    [LibraryImport("libc", EntryPoint = "isatty")]
    private static partial int IsTerminal(int descriptor);

    [LibraryImport("libc", EntryPoint = "tcgetattr", SetLastError = true)]
    private static partial int GetSettings(int descriptor, [Out] byte[] settings);

    [LibraryImport("libc", EntryPoint = "tcsetattr", SetLastError = true)]
    private static partial int SetSettings(int descriptor, int when, byte[] settings);

    [LibraryImport("libc", EntryPoint = "cfmakeraw")]
    private static partial void MakeRaw([In, Out] byte[] settings);
}
