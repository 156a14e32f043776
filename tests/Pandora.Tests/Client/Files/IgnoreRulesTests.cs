using Pandora.Client;
using Pandora.Linux;

namespace Pandora.Tests.Client.Files;

/// <summary>What git ignores, compared with git itself.</summary>
public sealed class IgnoreRulesTests : IDisposable
{
    private static readonly string[] Paths =
    [
        "a", "b.txt", "c.log", "keep.log", "#hash", "!bang", "space ", "x/a", "x/b.txt", "x/y/a", "x/y/z/deep.log", "build/out",
        "x/build/out",
        "doc/frotz/a", "a1", "a2", "ab", "foo/bar/baz", "foo/baz", "foo/x/y/baz", "logs/one/debug.log", "[x]", "back\\slash",
        "TEST", "test",
        "node_modules/m/i.js", "x/node_modules/m/i.js", "only/here", "x/only/here",
    ];

    private readonly string _directory = Directory.CreateTempSubdirectory("pandora-ignore").FullName;

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [Theory]
    [InlineData("*.log\n!keep.log")]
    [InlineData("/a\nbuild/")]
    [InlineData("# comment\n\\#hash\n\\!bang\nspace\\ \n")]
    [InlineData("doc/frotz")]
    [InlineData("**/baz")]
    [InlineData("foo/**/baz")]
    [InlineData("foo/**\n!foo/baz")]
    [InlineData("a[12]\nx/[!y]")]
    [InlineData("a[[:digit:]]\n\\[x\\]\n")]
    [InlineData("?")]
    [InlineData("*\n!*/\n!*.log")]
    [InlineData("node_modules\r\n*.txt\r\n")]
    [InlineData("/only/\nlogs/*/debug.log")]
    [InlineData("back\\\\slash\ntest\n[")]
    [InlineData("a**\n**a")]
    public async Task Patterns_ignore_what_git_ignores(string patterns)
    {
        await PrepareAsync();
        await File.WriteAllTextAsync(Path.Combine(_directory, ".gitignore"), patterns, Token);
        Assert.Equal(await GitAsync(_directory), Walked(_directory));
    }

    [Fact]
    public async Task The_patterns_of_each_directory_and_of_the_repository_count()
    {
        await PrepareAsync();
        await File.WriteAllTextAsync(Path.Combine(_directory, ".gitignore"), "*.log\n/x/y/a\n", Token);
        await File.WriteAllTextAsync(Path.Combine(_directory, "x/.gitignore"), "!deep.log\n/build\n", Token);
        await File.WriteAllTextAsync(Path.Combine(_directory, ".git/info/exclude"), "a1\n*.txt\n", Token);
        Assert.Equal(await GitAsync(_directory), Walked(_directory));
        // From a directory of the repository, the patterns above count, too.
        var inner = Path.Combine(_directory, "x");
        Assert.Equal(await GitAsync(inner), Walked(inner));
    }

    private static CancellationToken Token => TestContext.Current.CancellationToken;

    private static List<string> Walked(string root) =>
    [
        .. new LocalTree(root, new UploadOptions { ExcludesIgnored = true }).Walk().Where(f => f.Header!.Type != TarEntry.Directory)
            .Select(f => f.Path).Order(StringComparer.Ordinal),
    ];

    private static async Task<List<string>> GitAsync(string root) =>
    [
        .. (await Command.RunAsync("git", ["-C", root, "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore",
            $"--exclude-from={await ExcludeAsync(root)}"])).Split('\0', StringSplitOptions.RemoveEmptyEntries)
            .Where(f => f != "\n").Order(StringComparer.Ordinal),
    ];

    // Not --exclude-standard: that has the patterns of this host's user.
    private static async Task<string> ExcludeAsync(string root) =>
        Path.Combine((await Command.RunAsync("git", ["-C", root, "rev-parse", "--absolute-git-dir"])).Trim(), "info/exclude");

    private async Task PrepareAsync()
    {
        await Command.RunAsync("git", ["init", "-q", _directory]);
        foreach (var path in Paths)
        {
            var file = Path.Combine(_directory, path);
            Directory.CreateDirectory(Path.GetDirectoryName(file)!);
            await File.WriteAllTextAsync(file, "", Token);
        }
    }
}
