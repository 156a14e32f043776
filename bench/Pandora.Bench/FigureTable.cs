using System.Globalization;
using System.Text;

namespace Pandora.Bench;

/// <summary>
/// The table of figures in <c>docs/performance.md</c>: the newest value of each figure in the reports under <c>benchmarks/</c>.
/// </summary>
internal static class FigureTable
{
    private const string Begin = "<!-- figures: made by './pandora bench --table' -->", End = "<!-- end of figures -->";

    /// <summary>Returns the page with a new table.</summary>
    public static string Update(string page, string directory)
    {
        var begin = page.IndexOf(Begin, StringComparison.Ordinal) + Begin.Length;
        var end = page.IndexOf(End, StringComparison.Ordinal);
        return begin < Begin.Length || end < begin
            ? throw new InvalidOperationException($"the page has no lines '{Begin}' and '{End}'")
            : $"{page[..begin]}\n{Make(directory)}{page[end..]}";
    }

    private static string Make(string directory)
    {
        var reports = Directory.GetFiles(directory, "bench-*.json").Select(BenchReport.Read).OrderBy(r => r.At).ToList();
        var newest = new Dictionary<string, (Result Result, BenchReport Report)>();
        foreach (var report in reports)
        {
            foreach (var result in report.Results)
            {
                newest[result.Name] = (result, report);
            }
        }

        var text = new StringBuilder("| measured | value | wanted | met | from |\n|---|---|---|---|---|\n");
        foreach (var (result, _) in newest.Values)
        {
            text.Append(
                CultureInfo.InvariantCulture,
                $"| {result.Name} | {result.Shown} | {result.Wanted} | {(result.IsMet ? "yes" : "**no**")} | {result.Reference} |\n");
        }

        foreach (var group in newest.Values.GroupBy(n => n.Report.Machine))
        {
            var (first, last) = (group.Min(g => g.Report.At), group.Max(g => g.Report.At));
            var until = first.Date == last.Date ? "" : $" to {last:yyyy-MM-dd}";
            var machine = group.Key;
            text.Append(
                CultureInfo.InvariantCulture,
                $"\n{first:yyyy-MM-dd}{until}, {machine.Processors} × {machine.Processor}, {machine.MemoryMiB / 1024.0:0} GiB, "
                    + $"{machine.System}.\n");
        }

        return text.ToString();
    }
}
