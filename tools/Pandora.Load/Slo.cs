using System.Globalization;
using System.Text.RegularExpressions;

namespace Pandora.Load;

/// <summary>
/// An objective for a load, such as <c>acquire.p99&lt;5ms</c>, <c>exec.server.p50&lt;=200ms</c>, <c>errors&lt;1%</c>,
/// <c>throughput&gt;2</c>.
/// </summary>
public sealed partial record Slo
{
    private Slo(string text, string measure, string comparison, double limit)
    {
        Text = text;
        Measure = measure;
        Comparison = comparison;
        Limit = limit;
    }

    /// <summary>The objective as the user wrote it.</summary>
    public string Text { get; }

    private string Measure { get; }

    private string Comparison { get; }

    private double Limit { get; }

    /// <summary>Parses an objective.</summary>
    /// <exception cref="FormatException">The text is no objective; the message says how to write one.</exception>
    public static Slo Parse(string text)
    {
        var match = Pattern().Match(text.Replace(" ", "", StringComparison.Ordinal));
        if (!match.Success)
        {
            throw new FormatException(
                $"'{text}' is no objective: write (acquire|first_exec|exec|delete|total)[.server].(min|mean|p50|p90|p99|p999|max) and "
                    + "a limit such as <5ms, or errors<1%, or throughput>2 (sandboxes per second)");
        }

        var measure = match.Groups["measure"].Value;
        var unit = match.Groups["unit"].Value;
        var expected = measure switch
        {
            "errors" => unit == "%",
            "throughput" => unit.Length == 0,
            _ => unit is "us" or "ms" or "s",
        };
        var limit = double.Parse(match.Groups["limit"].Value, CultureInfo.InvariantCulture);
        return expected
            ? new Slo(
                text,
                measure,
                match.Groups["comparison"].Value,
                unit switch
                {
                    "us" => limit / 1000,
                    "s" => limit * 1000,
                    _ => limit,
                })
            : throw new FormatException($"'{text}': {UnitRule(measure)}");
    }

    /// <summary>Checks a report against the objective. An objective is not met when its value was not measured.</summary>
    public SloResult Check(LoadReport report)
    {
        var actual = Read(report);
        var isMet =
            actual is { } value
            && Comparison switch
            {
                "<" => value < Limit,
                "<=" => value <= Limit,
                ">" => value > Limit,
                _ => value >= Limit,
            };
        var unit = Measure switch
        {
            "errors" => "%",
            "throughput" => "",
            _ => "ms",
        };
        return new SloResult(Text, actual is null ? null : Math.Round(actual.Value, 3), unit, isMet);
    }

    private static string UnitRule(string measure) => measure switch
    {
        "errors" => "errors need a limit in %",
        "throughput" => "a throughput is a number without a unit, in sandboxes per second",
        _ => "a time needs us, ms or s",
    };

    private double? Read(LoadReport report)
    {
        switch (Measure)
        {
            case "errors":
                return report.Succeeded + report.Failed == 0 ? null : 100.0 * report.Failed / (report.Succeeded + report.Failed);
            case "throughput":
                return report.SandboxesPerSecond;
        }

        var parts = Measure.Split('.');
        var sides = report.Latency[parts[0]];
        var summary = parts.Length == 3 ? sides.Server : sides.Client;
        return summary is null ? null : parts[^1] switch
        {
            "min" => summary.Min,
            "mean" => summary.Mean,
            "p50" => summary.P50,
            "p90" => summary.P90,
            "p99" => summary.P99,
            "p999" => summary.P999,
            _ => summary.Max,
        };
    }

    [GeneratedRegex(
        @"^(?<measure>(acquire|first_exec|exec|delete)(\.server)?\.(min|mean|p50|p90|p99|p999|max)"
            + @"|total\.(min|mean|p50|p90|p99|p999|max)|errors|throughput)"
            + @"(?<comparison><=|>=|<|>)(?<limit>\d+(\.\d+)?)(?<unit>us|ms|s|%)?$")]
    private static partial Regex Pattern();
}

/// <summary>An objective and its result.</summary>
/// <param name="Objective">The objective as the user wrote it.</param>
/// <param name="Actual">The measured value; null when it was not measured.</param>
/// <param name="Unit">Unit of the value.</param>
/// <param name="IsMet">Whether the objective was met.</param>
public sealed record SloResult(string Objective, double? Actual, string Unit, bool IsMet);
