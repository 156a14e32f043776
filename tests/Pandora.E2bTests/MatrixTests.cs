using System.Globalization;
using System.Text;
using Pandora.Linux;
using Pandora.TestHost;
using Xunit.Sdk;
using Xunit.v3;

namespace Pandora.E2bTests;

/// <summary>
/// Makes the matrix of clients and tiers from the runs of this program, writes it to <c>artifacts/e2b-matrix.md</c>, and compares it with
/// the one in the guide.
/// </summary>
public sealed class MatrixTests
{
    private const string Page = "docs/e2b.md", Begin = "<!-- matrix -->\n", End = "<!-- /matrix -->", Untested = "untested";

    private static readonly (Tier Tier, string Title)[] Columns =
    [
        (Tier.Guest, "commands, terminals, files"),
        (Tier.Sandboxes, "sandboxes"),
        (Tier.Git, "git"),
        (Tier.HostNames, "host names, TLS"),
        (Tier.CommandLine, "command line"),
    ];

    [Fact]
    public async Task The_matrix_in_the_guide_is_that_of_this_run()
    {
        Assert.SkipWhen(Clients.Npm.Missing is not null, Clients.Npm.Missing ?? "");
        Assert.SkipUnless(await HasRunAsync(), "not all scenarios were run");
        var matrix = await WriteAsync();
        await File.WriteAllTextAsync(Path.Combine(Repository.Root, "artifacts/e2b-matrix.md"), matrix);
        // The tests run as root, and root must own no file in the tree.
        await Command.RunAsync(
            "chown", [$"--reference={Repository.Root}/artifacts", Path.Combine(Repository.Root, "artifacts/e2b-matrix.md")]);
        var path = Path.Combine(Repository.Root, Page);
        var page = await File.ReadAllTextAsync(path);
        var (begin, end) = (page.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length, page.IndexOf(End, StringComparison.Ordinal));
        Assert.True(begin > Begin.Length && end >= begin, $"{Page} has no block '{Begin.Trim()}'");
        if (Environment.GetEnvironmentVariable("MAKE_REFERENCE") == "1")
        {
            await File.WriteAllTextAsync(path, page[..begin] + matrix + page[end..]);
            return;
        }

        Assert.True(
            page[begin..end] == matrix,
            $"{Page} has another matrix. If the change is intended, run all tests of this program with MAKE_REFERENCE=1:\n{matrix}");
    }

    [Fact]
    public void Every_file_of_scenarios_is_run()
    {
        string[] others = ["fixture", "names"];
        var files = Directory.GetFiles(ScenarioFile.Directory, "*.mjs").Select(f => Path.GetFileNameWithoutExtension(f));
        Assert.Equal(ScenarioFile.All.Select(f => f.Name).Concat(others).Order(), files.Order());
        Assert.All(ScenarioFile.All, f => Assert.NotEmpty(f.Scenarios));
        var packages = File.ReadAllText(Path.Combine(Repository.Root, "tests/Pandora.E2bTests/clients/package.json"));
        Assert.All(Client.Sdks.Append(Client.CommandLine), c => Assert.Contains($"\"{c.Package}\":", packages));
    }

    private static IEnumerable<(Client Client, ScenarioFile File)> Expected() =>
        Client.Sdks.SelectMany(c => ScenarioFile.All.Where(f => f.Tier != Tier.CommandLine).Select(f => (c, f)))
            .Concat(ScenarioFile.All.Where(f => f.Tier == Tier.CommandLine).Select(f => (Client.CommandLine, f)));

    private static async Task<bool> HasRunAsync()
    {
        foreach (var (client, file) in Expected())
        {
            if (await Clients.Runs.FindAsync(client.Package, file.Script) is null)
            {
                return false;
            }
        }

        return true;
    }

    private static async Task<string> WriteAsync()
    {
        var text = new StringBuilder();
        text.Append(CultureInfo.InvariantCulture, $"| client | {string.Join(" | ", Columns.Select(c => c.Title))} |\n");
        text.Append(CultureInfo.InvariantCulture, $"|---|{string.Concat(Columns.Select(_ => "---|"))}\n");
        foreach (var client in Client.Sdks.Append(Client.CommandLine))
        {
            text.Append(CultureInfo.InvariantCulture, $"| {client.Shown} |");
            foreach (var (tier, _) in Columns)
            {
                text.Append(CultureInfo.InvariantCulture, $" {await CellAsync(client, tier)} |");
            }

            text.Append('\n');
        }

        text.Append(CultureInfo.InvariantCulture, $"| Python SDK |{string.Concat(Columns.Select(_ => $" {Untested} |"))}\n");
        var count = Expected().Sum(e => e.File.Scenarios.Count);
        text.Append(CultureInfo.InvariantCulture, $"\n\"n of m\": so many of the tier's scenarios passed. {count} were run in all.\n");
        return text.ToString();
    }

    private static async Task<string> CellAsync(Client client, Tier tier)
    {
        var (passed, all) = (0, 0);
        foreach (var file in Expected().Where(e => e.Client == client && e.File.Tier == tier).Select(e => e.File))
        {
            all += file.Scenarios.Count;
            passed += (await Clients.Runs.FindAsync(client.Package, file.Script))!.Count(r => r.Ok);
        }

        return all == 0 ? Untested : $"{passed} of {all}";
    }
}

/// <summary>Runs the test of the matrix after all others, whose results it needs.</summary>
public sealed class MatrixLast : ITestCollectionOrderer
{
    public IReadOnlyCollection<TTestCollection> OrderTestCollections<TTestCollection>(IReadOnlyCollection<TTestCollection> testCollections)
        where TTestCollection : ITestCollection =>
        [.. testCollections.OrderBy(c => c.TestCollectionDisplayName.Contains(nameof(MatrixTests), StringComparison.Ordinal))];
}
