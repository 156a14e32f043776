using System.CommandLine;

namespace Pandora.Cli;

/// <summary>The user's own command at the end of ours, with or without <c>--</c> before it.</summary>
internal static class CommandTail
{
    /// <summary>Puts <c>--</c> where the user's command begins, so that its options are not taken for ours.</summary>
    /// <exception cref="UsageException">An option before that is none of ours: the parser would take it for a word of the user's command
    /// and run it.</exception>
    public static string[] Separate(RootCommand root, string[] args)
    {
        Command? command = null;
        var ours = 0;
        for (var i = 0; i < args.Length && args[i] != "--"; i++)
        {
            if (args[i].Length > 1 && args[i][0] == '-')
            {
                i += IsFollowedByValue(command is null ? root.Options : root.Options.Concat(command.Options), args[i], command is not null)
                    ? 1 : 0;
            }
            else if (command is null)
            {
                command = root.Subcommands.FirstOrDefault(c => c.Name == args[i] && c.Name is "run" or "exec" or "ssh");
                if (command is null)
                {
                    return args;
                }

                ours = command.Name is "exec" or "ssh" ? 1 : 0;
            }
            else if (ours-- == 0)
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

    private static bool IsFollowedByValue(IEnumerable<Option> options, string word, bool mustBeOurs)
    {
        Option? Find(string name) => options.FirstOrDefault(o => o.Name == name || o.Aliases.Contains(name));
        var end = word.IndexOfAny(['=', ':']);
        if (Find(end < 0 ? word : word[..end]) is { } option)
        {
            return end < 0 && TakesValue(option);
        }

        // Short options in one word: flags, then perhaps one with its value.
        for (var i = 1; i < word.Length && word[1] != '-' && Find($"-{word[i]}") is { } letter; i++)
        {
            if (TakesValue(letter) || i == word.Length - 1)
            {
                return TakesValue(letter) && i == word.Length - 1;
            }
        }

        return mustBeOurs ? throw new UsageException($"there is no option '{word}'; one of the command's own goes after the command's name")
            : false;
    }

    private static bool TakesValue(Option option) => option.Arity.MaximumNumberOfValues > 0 && option.ValueType != typeof(bool);
}
