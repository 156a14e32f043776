using System.Text.RegularExpressions;

namespace Pandora.Tests.Docs;

/// <summary>Reads documentation comments from the source.</summary>
internal static partial class SourceComment
{
    /// <summary>The summary above the member that a pattern matches, as Markdown.</summary>
    /// <param name="file">Source file.</param>
    /// <param name="pattern">Regular expression of the member's declaration.</param>
    /// <param name="from">Text after which the member stands.</param>
    public static string Of(string file, string pattern, string from = "")
    {
        var text = Repository.Read(file);
        text = text[text.IndexOf(from, StringComparison.Ordinal)..];
        var found = Regex.Match(text, $@"/// <summary>(?<words>(?:(?!<summary>)[\s\S])*?)</summary>\s*{pattern}");
        Assert.True(found.Success, $"{file}: {pattern}");
        var words = LinePattern().Replace(found.Groups["words"].Value, " ").Trim();
        return TagPattern().Replace(words, m => $"`{m.Groups["code"].Value}{m.Groups["name"].Value}`");
    }

    [GeneratedRegex(@"\s*\n\s*///\s*")]
    private static partial Regex LinePattern();

    [GeneratedRegex(@"<c>(?<code>[^<]*)</c>|<see cref=""(\w+\.)*(?<name>\w+)""\s*/>")]
    private static partial Regex TagPattern();
}
