using System.Text;

namespace Pandora.Client;

/// <summary>
/// The patterns of one <c>.gitignore</c>, as <c>gitignore(5)</c> describes them: the last pattern that fits decides, <c>!</c> takes a file
/// in again, a slash at the end means directories only, a slash before binds the pattern to the file's directory, <c>**</c> is any number
/// of directories.
/// </summary>
internal sealed class IgnoreRules
{
    private readonly List<Rule> _rules = [];

    private IgnoreRules(IEnumerable<string> lines)
    {
        foreach (var line in lines)
        {
            if (Parse(line) is { } rule)
            {
                _rules.Add(rule);
            }
        }
    }

    /// <summary>The patterns of a text's lines.</summary>
    public static IgnoreRules Of(IEnumerable<string> lines) => new(lines);

    /// <summary>The patterns of a file; null when there is none.</summary>
    public static IgnoreRules? Read(string path) => File.Exists(path) ? new(File.ReadLines(path, Encoding.UTF8)) : null;

    /// <summary>Whether a file is ignored; null when no pattern fits it.</summary>
    /// <param name="path">Its path, relative to the directory of the patterns, with <c>/</c> between directories.</param>
    /// <param name="isDirectory">Whether it is a directory.</param>
    public bool? Decide(string path, bool isDirectory)
    {
        var parts = path.Split('/');
        for (var i = _rules.Count - 1; i >= 0; i--)
        {
            if (_rules[i].Fits(parts, isDirectory))
            {
                return !_rules[i].IsNegated;
            }
        }

        return null;
    }

    private static Rule? Parse(string line)
    {
        line = line.TrimEnd('\r');
        if (line.Length == 0 || line[0] == '#')
        {
            return null;
        }

        // Spaces at the end do not count, unless there is a backslash before.
        var end = line.Length;
        while (end > 0 && line[end - 1] == ' ' && !IsEscaped(line, end - 1))
        {
            end--;
        }

        var pattern = line[..end];
        var isNegated = pattern.StartsWith('!');
        pattern = isNegated ? pattern[1..] : pattern;
        var isForDirectories = pattern.EndsWith('/') && !IsEscaped(pattern, pattern.Length - 1);
        pattern = isForDirectories ? pattern[..^1] : pattern;
        if (pattern.Length == 0)
        {
            return null;
        }

        var isAnchored = pattern.Contains('/');
        var parts = pattern.TrimStart('/').Split('/');
        return new Rule(isAnchored ? parts : ["**", .. parts], isNegated, isForDirectories);
    }

    private static bool IsEscaped(string text, int index)
    {
        var backslashes = 0;
        while (index - backslashes > 0 && text[index - backslashes - 1] == '\\')
        {
            backslashes++;
        }

        return backslashes % 2 == 1;
    }

    private sealed record Rule(string[] Parts, bool IsNegated, bool IsForDirectories)
    {
        public bool Fits(string[] path, bool isDirectory) => (isDirectory || !IsForDirectories) && Fits(0, path, 0);

        private bool Fits(int part, string[] path, int at)
        {
            if (part == Parts.Length)
            {
                return at == path.Length;
            }

            if (Parts[part] != "**")
            {
                return at < path.Length && NamePattern.Fits(Parts[part], path[at]) && Fits(part + 1, path, at + 1);
            }

            // At the end it means what is in the directory, and not the directory itself.
            if (part == Parts.Length - 1)
            {
                return at < path.Length;
            }

            for (; at <= path.Length; at++)
            {
                if (Fits(part + 1, path, at))
                {
                    return true;
                }
            }

            return false;
        }
    }

    /// <summary>A pattern of one name: <c>*</c>, <c>?</c>, <c>[…]</c> and <c>\</c>.</summary>
    private static class NamePattern
    {
        public static bool Fits(ReadOnlySpan<char> pattern, ReadOnlySpan<char> name)
        {
            while (pattern.Length > 0)
            {
                if (pattern[0] == '*')
                {
                    var rest = pattern.TrimStart('*');
                    for (var i = 0; i <= name.Length; i++)
                    {
                        if (Fits(rest, name[i..]))
                        {
                            return true;
                        }
                    }

                    return false;
                }

                if (name.Length == 0 || !FitsOne(ref pattern, name[0]))
                {
                    return false;
                }

                name = name[1..];
            }

            return name.Length == 0;
        }

        private static bool FitsOne(ref ReadOnlySpan<char> pattern, char one)
        {
            var first = pattern[0];
            if (first == '[')
            {
                return FitsClass(ref pattern, one);
            }

            if (first == '\\' && pattern.Length > 1)
            {
                first = pattern[1];
                pattern = pattern[2..];
                return first == one;
            }

            pattern = pattern[1..];
            return first == '?' || first == one;
        }

        // A class that is not closed fits nothing.
        private static bool FitsClass(ref ReadOnlySpan<char> pattern, char one)
        {
            var i = 1;
            var isNegated = i < pattern.Length && pattern[i] is '!' or '^';
            i += isNegated ? 1 : 0;
            var fits = false;
            for (var isFirst = true; i < pattern.Length && (isFirst || pattern[i] != ']'); isFirst = false)
            {
                if (pattern[i..].StartsWith("[:") && pattern[i..].IndexOf(":]") is > 0 and var close)
                {
                    fits |= IsOf(pattern[(i + 2)..(i + close)], one);
                    i += close + 2;
                    continue;
                }

                var low = Next(pattern, ref i);
                var high = low;
                if (i + 1 < pattern.Length && pattern[i] == '-' && pattern[i + 1] != ']')
                {
                    i++;
                    high = Next(pattern, ref i);
                }

                fits |= low <= one && one <= high;
            }

            if (i >= pattern.Length)
            {
                pattern = default;
                return false;
            }

            pattern = pattern[(i + 1)..];
            return fits != isNegated;
        }

        private static char Next(ReadOnlySpan<char> pattern, ref int i)
        {
            i += pattern[i] == '\\' && i + 1 < pattern.Length ? 1 : 0;
            return pattern[i++];
        }

        private static bool IsOf(ReadOnlySpan<char> name, char one) => name switch
        {
            "alpha" => char.IsAsciiLetter(one),
            "digit" => char.IsAsciiDigit(one),
            "alnum" => char.IsAsciiLetterOrDigit(one),
            "upper" => char.IsAsciiLetterUpper(one),
            "lower" => char.IsAsciiLetterLower(one),
            "space" => one is ' ' or (>= '\t' and <= '\r'),
            "blank" => one is ' ' or '\t',
            "punct" => char.IsAscii(one) && (char.IsPunctuation(one) || char.IsSymbol(one)),
            "xdigit" => char.IsAsciiHexDigit(one),
            _ => false,
        };
    }
}
