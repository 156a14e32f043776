using System.Globalization;
using Pandora.Client;

namespace Pandora.Load;

/// <summary>
/// Checks, before and after a load, what the load leaks on the server. Resources that end after the answer have half a minute to end.
/// </summary>
internal sealed class LeakCheck(PandoraClient pandora, IReadOnlyDictionary<string, string> mark, TimeProvider time)
{
    private static readonly TimeSpan LongestWait = TimeSpan.FromSeconds(30);
    private double? _errorsBefore;

    public async Task BeginAsync(CancellationToken cancellationToken)
    {
        try
        {
            _errorsBefore = Sum(await pandora.GetMetricsAsync(cancellationToken), "pandora_teardown_errors_total");
        }
        catch (PandoraApiException)
        {
            // The report at the end says that metrics cannot be read.
        }
    }

    public async Task<LeakReport> EndAsync(CancellationToken cancellationToken)
    {
        var start = time.GetTimestamp();
        while (true)
        {
            var found = await CheckAsync(cancellationToken);
            if (found.IsClean || time.GetElapsedTime(start) > LongestWait)
            {
                return found;
            }

            await Task.Delay(TimeSpan.FromMilliseconds(200), time, cancellationToken);
        }
    }

    /// <summary>The sum of a metric over all its labels, from Prometheus' text format; null when the metric is missing.</summary>
    internal static double? Sum(string text, string metric)
    {
        var values = text.Split('\n')
            .Where(l => l.StartsWith(metric, StringComparison.Ordinal) && l.Length > metric.Length && l[metric.Length] is '{' or ' ')
            .Select(l =>
                double.Parse(
                    l[(l.LastIndexOf('}') + 1)..].Split(' ', StringSplitOptions.RemoveEmptyEntries)[
                        l.Contains('}', StringComparison.Ordinal) ? 0 : 1
                    ],
                    CultureInfo.InvariantCulture))
            .ToList();
        return values.Count == 0 ? null : values.Sum();
    }

    private async Task<LeakReport> CheckAsync(CancellationToken cancellationToken)
    {
        int? left = null;
        try
        {
            left = (await pandora.ListAsync(mark, cancellationToken)).Count;
            var metrics = await pandora.GetMetricsAsync(cancellationToken);
            var used = Sum(metrics, "pandora_active_vms") + Sum(metrics, "pandora_warm_vms") + Sum(metrics, "pandora_booting_vms");
            var unaccounted = Sum(metrics, "pandora_slots_held") - used;
            return new LeakReport(
                left,
                unaccounted is null ? null : (int)Math.Max(0, unaccounted.Value),
                (int?)(Sum(metrics, "pandora_teardown_errors_total") - _errorsBefore),
                (int?)Sum(metrics, "pandora_leaked_resources"));
        }
        catch (Exception e) when (e is PandoraClientException)
        {
            return new LeakReport(
                left,
                null,
                null,
                null,
                left is null
                    ? $"nothing could be checked: {e.Message}"
                    : $"slots and cleanup errors were not checked, because /metrics cannot be read: {e.Message}");
        }
    }
}
