namespace Pandora.Cli;

/// <summary>The user's own command at the end of ours, with or without <c>--</c> before it.</summary>
internal static class CommandTail
{
    // Our options that take a value, which is not where the user's command begins.
    private static readonly string[] WithValue = ["--url", "--template", "--timeout", "--idle-timeout", "--egress", "--env", "-e", "--cwd", "--user"];

    /// <summary>Puts <c>--</c> where the user's command begins, so that its options are not taken for ours.</summary>
    public static string[] Separate(string[] args)
    {
        var ours = args.FirstOrDefault() switch { "run" => 0, "exec" => 1, _ => -1 };
        for (var i = 1; ours >= 0 && i < args.Length; i++)
        {
            if (args[i] == "--")
            {
                break;
            }

            if (WithValue.Contains(args[i]))
            {
                i++;
            }
            else if (!args[i].StartsWith('-') && ours-- == 0)
            {
                return [.. args[..i], "--", .. args[i..]];
            }
        }

        return args;
    }

    /// <summary>One word is shell text; several are a program and its arguments, each passed as it is.</summary>
    public static string ToCode(IReadOnlyList<string> words) => words.Count == 1
        ? words[0]
        : string.Join(' ', words.Select(w => $"'{w.Replace("'", "'\\''", StringComparison.Ordinal)}'"));
}
