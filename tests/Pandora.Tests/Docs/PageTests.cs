using System.Text.RegularExpressions;

namespace Pandora.Tests.Docs;

/// <summary>The pages that a reader meets: their length and their links.</summary>
public sealed partial class PageTests
{
    private const int MostWords = 700;

    public static TheoryData<string> Pages { get; } = new(
        Directory.GetFiles(Repository.Root, "*.md")
            .Concat(Directory.GetFiles(Repository.PathOf("docs"), "*.md", SearchOption.AllDirectories))
            .Select(p => Path.GetRelativePath(Repository.Root, p)));

    [Fact]
    public void The_readme_is_short()
    {
        var words = Repository.Read("README.md").Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length;
        Assert.True(words <= MostWords, $"README.md has {words} words");
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_link_leads_to_a_file_and_a_heading(string page)
    {
        foreach (Match link in Link().Matches(Repository.Read(page)))
        {
            var (path, anchor) = (link.Groups["path"].Value, link.Groups["anchor"].Value);
            var target = path.Length == 0 ? page : Path.Combine(Path.GetDirectoryName(page)!, path);
            Assert.True(Path.Exists(Repository.PathOf(target)), $"{page}: {link.Value}");
            if (anchor.Length > 0)
            {
                Assert.Contains(anchor, Heading().Matches(Repository.Read(target)).Select(h => AnchorOf(h.Groups["text"].Value)));
            }
        }
    }

    [Theory]
    [MemberData(nameof(Pages))]
    public void Every_test_that_a_page_names_exists(string page)
    {
        foreach (Match test in TestName().Matches(Repository.Read(page)))
        {
            var (name, method) = (test.Groups["class"].Value, test.Groups["method"].Value);
            var source = Directory
                .EnumerateFiles(Repository.PathOf("tests"), "*.cs", SearchOption.AllDirectories)
                .Select(File.ReadAllText)
                .Where(text => text.Contains($"class {name}", StringComparison.Ordinal))
                .ToList();
            Assert.True(source.Count > 0, $"{page}: {name}");
            var exists = method.Length == 0 || source.Any(text => text.Contains($" {method}", StringComparison.Ordinal));
            Assert.True(exists, $"{page}: {method}");
        }
    }

    // As renderers of Markdown make it.
    private static string AnchorOf(string heading) => NoAnchor().Replace(heading.Trim().ToLowerInvariant(), "").Replace(' ', '-');

    [GeneratedRegex(@"\]\((?!https?:|mailto:)(?<path>[^)#\s]*)(#(?<anchor>[^)\s]+))?\)")]
    private static partial Regex Link();

    [GeneratedRegex(@"`(?<class>[A-Z]\w*Tests)(\.(?<method>\w+))?…?`")]
    private static partial Regex TestName();

    [GeneratedRegex(@"^#+ (?<text>.+)$", RegexOptions.Multiline)]
    private static partial Regex Heading();

    [GeneratedRegex(@"[^\w\- ]")]
    private static partial Regex NoAnchor();
}
