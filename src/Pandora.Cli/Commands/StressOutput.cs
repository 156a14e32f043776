using System.Globalization;
using Pandora.Load;
using Spectre.Console;

namespace Pandora.Cli.Commands;

/// <summary>
/// What <c>stress</c> shows: a line for each sandbox, progress while it runs, and the report. With JSON wanted, all but that goes to
/// standard error.
/// </summary>
internal sealed class StressOutput(bool asJson, bool isQuiet)
{
    private const string ClearLine = "\r\x1b[K";
    private readonly Lock _lock = new();
    private readonly TextWriter _writer = asJson ? Console.Error : Console.Out;
    private readonly bool _isTerminal = !Console.IsErrorRedirected;

    /// <summary>Shows one sandbox.</summary>
    public void Show(LoadedSandbox sandbox)
    {
        if (isQuiet)
        {
            return;
        }

        var execs = string.Join(", ", sandbox.ExecMs.Select(e => Ms(e)));
        var text = sandbox.Error is null
            ? $"[{sandbox.Number,4}] {sandbox.Id} slot {sandbox.Slot,-3} acquire {Ms(sandbox.AcquireMs)}  exec {execs}  "
                + $"total {Ms(sandbox.TotalMs)}"
            : $"[{sandbox.Number,4}] {sandbox.Id ?? "-"} failed after {Ms(sandbox.TotalMs)}: {sandbox.Error}";
        lock (_lock)
        {
            if (_isTerminal)
            {
                Console.Error.Write(ClearLine);
            }

            _writer.WriteLine(text);
        }
    }

    /// <summary>Shows progress until the run is done: a line that is written over on a terminal, one every ten seconds elsewhere.</summary>
    public async Task<LoadReport> WatchAsync(LoadRun run, LoadPlan plan, Task<LoadReport> running)
    {
        using var timer = new PeriodicTimer(_isTerminal ? TimeSpan.FromMilliseconds(250) : TimeSpan.FromSeconds(10));
        while (await Task.WhenAny(running, timer.WaitForNextTickAsync().AsTask()) != running)
        {
            var (started, succeeded, failed, elapsed) = run.Progress;
            var ended = plan.Expected is { } expected ? $"{succeeded + failed}/{expected}" : $"{succeeded + failed}";
            var acquire = $"acquire p50 {Ms(run.AcquireAtClient.Percentile(50))} p99 {Ms(run.AcquireAtClient.Percentile(99))}";
            var exec = $"exec p50 {Ms(run.ExecAtClient.Percentile(50))} p99 {Ms(run.ExecAtClient.Percentile(99))}";
            var line = string.Create(
                CultureInfo.InvariantCulture,
                $"{ended} done, {started - succeeded - failed} in flight, {failed} failed · {acquire} · {exec} · "
                    + $"{elapsed.TotalSeconds:0} s");
            lock (_lock)
            {
                Console.Error.Write(_isTerminal ? $"{ClearLine}{line}" : $"{line}\n");
            }
        }

        if (_isTerminal)
        {
            Console.Error.Write(ClearLine);
        }

        return await running;
    }

    /// <summary>Shows the report, and what changed since an earlier one.</summary>
    private static string Describe(LeakReport leaks)
    {
        static string Count(double? number) => number is { } known ? known.ToString(CultureInfo.InvariantCulture) : "?";
        var leaked = leaks.Leaked is null ? "" : $", {Count(leaks.Leaked)} leaked resources";
        var note = leaks.Note is null ? "" : $" ({leaks.Note})";
        return $"remaining on the server: {Count(leaks.Sandboxes)} sandboxes, {Count(leaks.Slots)} slots, "
            + $"{Count(leaks.TeardownErrors)} teardown errors{leaked}{note}";
    }

    public void Show(LoadReport report, LoadReport? baseline)
    {
        _writer.WriteLine();
        var console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(_writer) });
        console.Profile.Width = Math.Max(console.Profile.Width, 120);
        console.Write(LatencyTable(report, baseline));
        var ended = $"{report.Succeeded} succeeded, {report.Failed} failed, {report.Cold} had to wait for a microVM";
        _writer.WriteLine(string.Create(
            CultureInfo.InvariantCulture,
            $"""
            wall clock {report.WallSeconds:0.00} s · {ended} · {report.Execs} execs · slots used: {report.SlotsUsed}
            throughput {report.SandboxesPerSecond:0.00} sandboxes/s, {report.ExecsPerSecond:0.00} execs/s
            {Describe(report.Leaks)}
            """));
        foreach (var (code, count) in report.Errors)
        {
            _writer.WriteLine($"failed: {count} × {code}");
        }

        foreach (var s in report.Slo)
        {
            var actual = s.Actual is null ? "nothing was measured" : string.Create(CultureInfo.InvariantCulture, $"{s.Actual} {s.Unit}");
            _writer.WriteLine($"objective {s.Objective}: {(s.IsMet ? "met" : "MISSED")} ({actual.TrimEnd()})");
        }

        if (
            baseline is not null
            && (baseline.Plan != report.Plan || baseline.Machine != report.Machine || baseline.Server.Vmm != report.Server.Vmm))
        {
            _writer.WriteLine("the baseline is of another plan, machine or VMM: its ratios say less");
        }

        if (report.IsInterrupted)
        {
            _writer.WriteLine("interrupted: what was started is deleted, and the figures are of what there was");
        }

        if (asJson)
        {
            Shared.PrintJson(report, LoadJson.Default.LoadReport);
        }
    }

    private static Table LatencyTable(LoadReport report, LoadReport? baseline)
    {
        var table = new Table().Border(TableBorder.Simple).AddColumns("", "seen by", "count", "min", "p50", "p90", "p99", "max");
        if (baseline is not null)
        {
            table.AddColumns("p50 / baseline", "p99 / baseline");
        }

        foreach (var (name, sides) in report.Latency)
        {
            foreach (
                var (side, summary, before) in new[]
                {
                    ("client", sides.Client, baseline?.Latency.GetValueOrDefault(name)?.Client),
                    ("server", sides.Server, baseline?.Latency.GetValueOrDefault(name)?.Server),
                })
            {
                if (summary is null)
                {
                    continue;
                }

                string[] row =
                [
                    name.Replace('_', ' '),
                    side,
                    $"{summary.Count}",
                    Ms(summary.Min),
                    Ms(summary.P50),
                    Ms(summary.P90),
                    Ms(summary.P99),
                    Ms(summary.Max),
                ];
                table.AddRow(baseline is null ? row : [.. row, Ratio(summary.P50, before?.P50), Ratio(summary.P99, before?.P99)]);
            }
        }

        return table;
    }

    private static string Ratio(double now, double? before) =>
        before is > 0 ? string.Create(CultureInfo.InvariantCulture, $"{now / before.Value:0.00} ×") : "-";

    private static string Ms(double? ms) =>
        ms is null
            ? "-"
            : string.Create(
                CultureInfo.InvariantCulture,
                $"{(ms < 10 ? Math.Round(ms.Value, 2) : ms < 100 ? Math.Round(ms.Value, 1) : Math.Round(ms.Value))} ms");
}
