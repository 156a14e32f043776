using System.Text;

namespace Pandora.Agent.Processes;

/// <summary>How a shell is given a text to run.</summary>
internal static class ShellCode
{
    /// <summary>Most bytes of one argument, with its zero byte (execve(2): MAX_ARG_STRLEN is 32 pages).</summary>
    private const int MaxArgument = (128 * 1024) - 1;

    private const string Bash = "/bin/bash";
    private static readonly string[] Plain = [Bash, "/usr/bin/bash"], Faster = ["/bin/bash-static", .. Plain];
    private static (long Length, DateTime WrittenAt, UnixFileMode Mode)? s_bash;

    /// <summary>
    /// Where bash is looked for. The distribution's static bash is the same program without the dynamic linker's work, which costs 30 ms of
    /// 35 under emulation. It stands for bash only (1) while bash is what it was at the agent's start: a bash that the guest's root has
    /// replaced is used, and one that is taken away is missing; (2) without variables of the dynamic linker's.
    /// </summary>
    /// <param name="environment">The variables of the command.</param>
    public static IReadOnlyList<string> ProgramsFor(IReadOnlyList<string> environment) =>
        s_bash is not null && s_bash == Describe() && !environment.Any(v => v.StartsWith("LD_", StringComparison.Ordinal))
            ? Faster
            : Plain;

    /// <summary>Remembers what bash is, at the agent's start.</summary>
    public static void RememberBash() => s_bash = Describe();

    // Null for what is no program for every user, as after an agent that was started again beside a broken bash.
    private static (long, DateTime, UnixFileMode)? Describe()
    {
        const long LeastProgram = 64 * 1024;
        var file = new FileInfo(Bash);
        return file.Exists && file.Length > LeastProgram && file.UnixFileMode.HasFlag(UnixFileMode.OtherExecute)
            ? (file.Length, file.LastWriteTimeUtc, file.UnixFileMode)
            : null;
    }

    /// <summary>
    /// The shell's arguments. A text that is too long for one argument is put together again by eval, in the same shell and without
    /// leaving a variable or a parameter behind. Only a syntax error then names eval instead of -c.
    /// </summary>
    public static IReadOnlyList<string> ArgumentsFor(string code)
    {
        if (Encoding.UTF8.GetByteCount(code) <= MaxArgument)
        {
            return ["bash", "-c", code];
        }

        var pieces = Cut(code);
        var parameters = string.Concat(Enumerable.Range(1, pieces.Count).Select(i => $"${{{i}}}"));
        return ["bash", "-c", $"eval \"set --;{parameters}\"", "bash", .. pieces];
    }

    private static List<string> Cut(string code)
    {
        // At most three bytes for each UTF-16 unit.
        const int Length = MaxArgument / 3;
        List<string> pieces = [];
        for (var at = 0; at < code.Length;)
        {
            var length = Math.Min(Length, code.Length - at);
            length -= at + length < code.Length && char.IsHighSurrogate(code[at + length - 1]) ? 1 : 0;
            pieces.Add(code.Substring(at, length));
            at += length;
        }

        return pieces;
    }
}
