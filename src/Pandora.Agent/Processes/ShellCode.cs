using System.Text;

namespace Pandora.Agent.Processes;

/// <summary>How a shell is given a text to run.</summary>
internal static class ShellCode
{
    /// <summary>Most bytes of one argument, with its zero byte (execve(2): MAX_ARG_STRLEN is 32 pages).</summary>
    private const int MaxArgument = (128 * 1024) - 1;

    /// <summary>
    /// Where bash may be. The distribution's static bash is the same program without the dynamic linker's work, which costs 30 ms of 35
    /// under emulation.
    /// </summary>
    public static IReadOnlyList<string> Programs { get; } = ["/bin/bash-static", "/bin/bash", "/usr/bin/bash"];

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
