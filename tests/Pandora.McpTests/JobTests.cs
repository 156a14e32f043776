using System.Globalization;
using System.Text;
using Pandora.Linux;
using Pandora.TestHost;
using Xunit.Sdk;
using Xunit.v3;

namespace Pandora.McpTests;

/// <summary>Writes what the five jobs cost, in calls and bytes, to <c>artifacts/mcp-jobs.md</c>. The scenarios hold the bounds.</summary>
public sealed class JobTests
{
    [Fact]
    public async Task The_costs_of_the_jobs_are_reported()
    {
        Assert.SkipWhen(Clients.Npm.Missing is not null, Clients.Npm.Missing ?? "");
        var script = ScenarioFile.All.Single(f => f.Name == "jobs").Script;
        var results = await Clients.Runs.FindAsync(Clients.NewOverHttp, script);
        Assert.SkipWhen(results is null, "the jobs were not run");
        Assert.Equal(5, results!.Count(r => r.Value is not null));
        var report = new StringBuilder("| job | calls | bytes a model writes | bytes it reads | seconds |\n|---|---|---|---|---|\n");
        foreach (var result in results.Where(r => r.Value is not null))
        {
            var cost = result.Value!.Value;
            var figures = string.Join(" | ", new[] { "calls", "written", "read" }.Select(n => cost.GetProperty(n).GetInt64()));
            report.Append(
                CultureInfo.InvariantCulture,
                $"| {result.Name.Replace('_', ' ')} | {figures} | {result.Milliseconds / 1000.0:0.0} |\n");
        }

        var path = Path.Combine(Repository.Root, "artifacts/mcp-jobs.md");
        await File.WriteAllTextAsync(path, report.ToString());
        // The tests run as root, and root must own no file in the tree.
        await Command.RunAsync("chown", [$"--reference={Repository.Root}/artifacts", path]);
    }
}

/// <summary>Runs the test of the report after all others, whose results it needs.</summary>
public sealed class ReportLast : ITestCollectionOrderer
{
    public IReadOnlyCollection<TTestCollection> OrderTestCollections<TTestCollection>(IReadOnlyCollection<TTestCollection> testCollections)
        where TTestCollection : ITestCollection =>
        [.. testCollections.OrderBy(c => c.TestCollectionDisplayName.Contains(nameof(JobTests), StringComparison.Ordinal))];
}
