using System.Globalization;
using System.Text.RegularExpressions;

namespace Pandora.Tests.Docs;

/// <summary>Rules for source files that the compiler and the analyzers do not check.</summary>
public sealed partial class SourceTests
{
    private static readonly string[] Directories = ["src", "tests", "tools", "bench", "examples"];

    // docs/glossary.md has the words to use instead.
    private static readonly string[] BannedPhrases =
    [
        "is told", "are told", "was told",
        "looked after", "sees to",
        "nobody's", "belongs to nobody", "whoever",
        "let go", "taken over", "takes over",
        "mended",
    ];

    [Fact]
    public void No_line_is_longer_than_the_editorconfig_allows()
    {
        var setting = LineLengthPattern().Match(Repository.Read(".editorconfig"));
        Assert.True(setting.Success, ".editorconfig has no max_line_length");
        var limit = int.Parse(setting.Groups["columns"].Value, CultureInfo.InvariantCulture);
        var files = Directories.SelectMany(FilesIn).ToList();
        Assert.True(files.Count > 200, $"only {files.Count} files were found");
        var tooLong = files.SelectMany(file => File.ReadLines(file)
            .Select((line, index) => (Place: PlaceOf(file, index + 1), Columns: new StringInfo(line).LengthInTextElements))
            .Where(l => l.Columns > limit));
        AssertNone($"more than {limit} columns", tooLong.Select(l => $"{l.Place}: {l.Columns}"));
    }

    [Fact]
    public void No_comment_or_string_of_the_product_has_a_banned_phrase()
    {
        var files = FilesIn("src").ToList();
        Assert.True(files.Count > 100, $"only {files.Count} files were found");
        AssertNone("banned phrases", files.SelectMany(file => FindBanned(File.ReadAllText(file))
            .Select(f => $"{PlaceOf(file, f.Line)}: {f.Phrase}")));
    }

    [Theory]
    [InlineData("// The caller is told.", 1)]
    [InlineData("/// <summary>Whoever asks.</summary>", 1)]
    [InlineData("x = \"it was mended\";", 1)]
    [InlineData("\n\n/* let\n   go */", 3)]
    [InlineData("// The caller is\n    // told.", 1)]
    [InlineData("x = 1;\nx = \"a guest is \"\n    + $\"told {x}\";", 2)]
    [InlineData("x = \"\"\"\n    a \"b\" c\n    is told\n    \"\"\";", 3)]
    [InlineData("x = @\"a\\\"; // taken over", 1)]
    [InlineData("x = '\"'; Mended(\"a\");", null)]
    [InlineData("mended = isTold; // recommended, pandora_records_mended, letting go", null)]
    [InlineData("x = \"http://x\"; mended();", null)]
    [InlineData("", null)]
    public void Phrases_are_found_in_comments_and_strings_only(string text, int? line) =>
        Assert.Equal(line, FindBanned(text).Select(f => (int?)f.Line).SingleOrDefault());

    // The build's output directory lies elsewhere, but an editor may leave bin and obj directories in the projects.
    private static IEnumerable<string> FilesIn(string directory) =>
        Directory.EnumerateFiles(Repository.PathOf(directory), "*.cs", SearchOption.AllDirectories)
            .Where(f => !Path.GetRelativePath(Repository.Root, f).Split('/').Intersect(["bin", "obj", "artifacts"]).Any())
            .Order(StringComparer.Ordinal);

    private static string PlaceOf(string file, int line) => $"{Path.GetRelativePath(Repository.Root, file)}:{line}";

    private static void AssertNone(string what, IEnumerable<string> found)
    {
        var all = found.ToList();
        Assert.True(all.Count == 0, $"{what}, {all.Count} times:\n{string.Join('\n', all)}");
    }

    // Phrases in comments and string literals, with the line where each begins. A phrase may continue on the next line.
    private static IEnumerable<(int Line, string Phrase)> FindBanned(string text)
    {
        var tokens = TokenPattern().Matches(text).Where(t => !t.Groups["character"].Success).ToList();
        foreach (var phrase in BannedPhrases)
        {
            var pattern = $@"\b{phrase.Replace(" ", @"[\s/*+$@""]+", StringComparison.Ordinal)}\b";
            foreach (Match match in Regex.Matches(text, pattern, RegexOptions.IgnoreCase | RegexOptions.CultureInvariant))
            {
                if (tokens.Any(t => t.Index <= match.Index && match.Index < t.Index + t.Length))
                {
                    yield return (text.AsSpan(0, match.Index).Count('\n') + 1, phrase);
                }
            }
        }
    }

    [GeneratedRegex(@"^max_line_length *= *(?<columns>\d+)", RegexOptions.Multiline)]
    private static partial Regex LineLengthPattern();

    // Comments, character literals, and raw, verbatim and ordinary strings. A string inside an interpolation counts as part of the outer
    // string or as code.
    [GeneratedRegex("""
        //[^\n]*
        | /\*[\s\S]*?\*/
        | (?<character>'(\\.|[^'\\\n])+')
        | (?<quotes>"{3,})[\s\S]*?\k<quotes>
        | (\$@|@\$?)"(""|[^"])*"
        | "(\\.|[^"\\\n])*"
        """, RegexOptions.IgnorePatternWhitespace)]
    private static partial Regex TokenPattern();
}
