using HdrHistogram;

namespace Pandora.Load;

/// <summary>Times, kept in a histogram with three significant digits from a microsecond to an hour. Any thread may add to it.</summary>
public sealed class Latencies
{
    private const long HighestMicroseconds = 3_600_000_000;
    private readonly LongConcurrentHistogram _histogram = new(1, HighestMicroseconds, 3);

    /// <summary>How many there are.</summary>
    public long Count => _histogram.TotalCount;

    /// <summary>Adds one.</summary>
    public void Add(TimeSpan time) => _histogram.RecordValue(Math.Clamp((long)time.TotalMicroseconds, 1, HighestMicroseconds));

    /// <summary>Adds one, in milliseconds.</summary>
    public void AddMs(double milliseconds) => Add(TimeSpan.FromMilliseconds(milliseconds));

    /// <summary>The value in milliseconds that this percentage (0 to 100) of all is not above; 0 when there are none.</summary>
    public double Percentile(double percentage) => Count == 0 ? 0 : _histogram.GetValueAtPercentile(percentage) / 1000.0;

    /// <summary>The usual figures; null when there are none.</summary>
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

/// <summary>Figures of many times, in milliseconds.</summary>
/// <param name="Count">How many.</param>
/// <param name="Min">The shortest.</param>
/// <param name="Mean">Their mean.</param>
/// <param name="P50">Half are not above.</param>
/// <param name="P90">90 % are not above.</param>
/// <param name="P99">99 % are not above.</param>
/// <param name="P999">99.9 % are not above.</param>
/// <param name="Max">The longest.</param>
public sealed record LatencySummary(long Count, double Min, double Mean, double P50, double P90, double P99, double P999, double Max);

/// <summary>The same times as the client and as the server saw them.</summary>
/// <param name="Client">From the request, or with a rate from when it was due, to the answer.</param>
/// <param name="Server">What the server told; null where it tells nothing.</param>
public sealed record TwoSides(LatencySummary? Client, LatencySummary? Server);
