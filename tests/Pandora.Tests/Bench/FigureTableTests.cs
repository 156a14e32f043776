using Pandora.Bench;

namespace Pandora.Tests.Bench;

public sealed class FigureTableTests
{
    [Fact]
    public void The_figures_of_the_page_are_those_of_the_committed_reports()
    {
        var page = Repository.Read("docs/performance.md");
        Assert.Equal(FigureTable.Update(page, Repository.PathOf("benchmarks")), page);
    }

    [Fact]
    public void The_newest_value_of_each_figure_is_shown_and_a_missed_goal_is_marked()
    {
        var directory = Directory.CreateTempSubdirectory("pandora-test-").FullName;
        try
        {
            var machine = new Pandora.Load.Machine("Some system", "x64", "Some CPU", 2, 2048);
            new BenchReport(
                new DateTimeOffset(2026, 1, 1, 0, 0, 0, TimeSpan.Zero),
                machine,
                [new("a", 1, "ms", 2), new("b", 1, "ms", 2)]).Write(Path.Combine(directory, "bench-1.json"));
            new BenchReport(
                new DateTimeOffset(2026, 1, 2, 0, 0, 0, TimeSpan.Zero),
                machine,
                [new("b", 3.14159, "ms", 2, "10 times")]).Write(Path.Combine(directory, "bench-2.json"));
            var page = "before\n<!-- figures: made by './pandora bench --table' -->\nold\n<!-- end of figures -->\nafter\n";
            var updated = FigureTable.Update(page, directory);
            Assert.Contains(
                "| a | 1 ms | ≤ 2 | yes |  |\n| b | 3.14 ms | ≤ 2 | **no** | 10 times |\n\n2026-01-01 to 2026-01-02, 2 × Some CPU, "
                    + "2 GiB, Some system.\n<!-- end of figures -->\nafter\n",
                updated);
            Assert.DoesNotContain("old", updated);
            Assert.Equal(updated, FigureTable.Update(updated, directory));
            Assert.Throws<InvalidOperationException>(() => FigureTable.Update("nothing", directory));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }
}
