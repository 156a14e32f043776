using System.Globalization;

namespace Pandora.Engine.Guests;

/// <summary>Names of signals: signal(7), for x86 and ARM.</summary>
public static class SignalNames
{
    private static readonly string[] Names =
    [
        "", "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM", "STKFLT",
        "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];

    /// <summary>The number of a signal.</summary>
    /// <exception cref="PandoraException">There is no such signal.</exception>
    public static int Parse(string? signal)
    {
        var name = signal?.StartsWith("SIG", StringComparison.OrdinalIgnoreCase) == true ? signal[3..] : signal ?? "";
        var number = int.TryParse(name, NumberStyles.None, CultureInfo.InvariantCulture, out var parsed)
            ? parsed
            : Array.FindIndex(Names, n => n.Equals(name, StringComparison.OrdinalIgnoreCase));
        return number is > 0 and <= 64
            ? number
            : throw PandoraException.Invalid("signal", "must be the name of a signal, such as TERM or SIGTERM, or a number from 1 to 64");
    }
}
