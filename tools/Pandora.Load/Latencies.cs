using HdrHistogram;

namespace Pandora.Load;

/// <summary>Times in a histogram with three significant digits, from a microsecond to an hour. Any thread may add to it.</summary>
public sealed class Latencies
{
    private const long HighestMicroseconds = 3_600_000_000;
    private readonly LongConcurrentHistogram _histogram = new(1, HighestMicroseconds, 3);

    /// <summary>The number of times.</summary>
    public long Count => _histogram.TotalCount;

    /// <summary>Adds a time.</summary>
    public void Add(TimeSpan time) => _histogram.RecordValue(Math.Clamp((long)time.TotalMicroseconds, 1, HighestMicroseconds));

    /// <summary>Adds a time in milliseconds.</summary>
    public void AddMs(double milliseconds) => Add(TimeSpan.FromMilliseconds(milliseconds));

    /// <summary>The time in milliseconds that a percentage (0 to 100) of all times does not exceed; 0 without times.</summary>
    public double Percentile(double percentage) => Count == 0 ? 0 : _histogram.GetValueAtPercentile(percentage) / 1000.0;

    /// <summary>The usual figures; null without times.</summary>
    public LatencySummary? Summarize() =>
        Count == 0
            ? null
            : new LatencySummary(
                Count,
                Round(_histogram.LowestEquivalentValue(_histogram.RecordedValues().First().ValueIteratedTo) / 1000.0),
                Round(_histogram.GetMean() / 1000.0),
                Round(Percentile(50)),
                Round(Percentile(90)),
                Round(Percentile(99)),
                Round(Percentile(99.9)),
                Round(_histogram.GetMaxValue() / 1000.0));

    private static double Round(double milliseconds) => Math.Round(milliseconds, 3);
}

/// <summary>Figures of many times, all in milliseconds.</summary>
/// <param name="Count">The number of times.</param>
/// <param name="Min">The shortest.</param>
/// <param name="Mean">The mean.</param>
/// <param name="P50">50 % of the times do not exceed this.</param>
/// <param name="P90">90 % of the times do not exceed this.</param>
/// <param name="P99">99 % of the times do not exceed this.</param>
/// <param name="P999">99.9 % of the times do not exceed this.</param>
/// <param name="Max">The longest.</param>
public sealed record LatencySummary(long Count, double Min, double Mean, double P50, double P90, double P99, double P999, double Max);

/// <summary>The same operations as measured by the client and by the server.</summary>
/// <param name="Client">Times from the request to the answer, or with a rate from the time when the request was due.</param>
/// <param name="Server">Times that the server reported; null where it reports none.</param>
public sealed record TwoSides(LatencySummary? Client, LatencySummary? Server);
