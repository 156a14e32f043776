using System.Diagnostics.Metrics;
using Pandora.Engine.Telemetry;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Hosting;

/// <summary>
/// Metrics of connections, of authentication, of previews and of the audit; the engine measures the rest. The counters are read at each
/// scrape, so each series exists from the start.
/// </summary>
internal sealed class ServerMetrics
{
    /// <summary>Name of the meter.</summary>
    public const string MeterName = "Pandora.Server";

    private static readonly ClosingReason[] Reasons = Enum.GetValues<ClosingReason>();
    private static readonly PreviewResult[] Results = Enum.GetValues<PreviewResult>();
    private readonly long[] _previews = new long[Results.Length];
    private readonly long[] _refused = new long[Reasons.Length];
    private readonly Meter _meter;
    private long _unauthorized, _guesses, _auditLost;

    /// <summary>Creates the instruments.</summary>
    /// <param name="factory">Creates the meter.</param>
    public ServerMetrics(IMeterFactory factory)
    {
        _meter = factory.Create(MeterName);
        _meter.CreateObservableCounter(
            "pandora_unauthorized", () => Interlocked.Read(ref _unauthorized),
            description: "Requests without a valid key, answered with 401");
        _meter.CreateObservableCounter(
            "pandora_guesses_refused", () => RefusedGuesses,
            description: "Requests answered with 429 because too many wrong keys came from their address");
        _meter.CreateObservableCounter(
            "pandora_audit_lost", () => Interlocked.Read(ref _auditLost),
            description: "Lines that are missing in the audit's file: its disk was full or too slow");
        _meter.CreateObservableCounter(
            "pandora_connections_refused", Refusals,
            description: "Connections refused, or closed before a valid key came on them, by reason");
        _meter.CreateObservableCounter(
            "pandora_preview_requests", Previews,
            description: "Requests to previews that ended, by result: a request that lasts is counted at its end");
    }

    /// <summary>Counts a request to a preview.</summary>
    public void PreviewAnswered(PreviewResult result) => Interlocked.Increment(ref _previews[(int)result]);

    /// <summary>Requests to previews with one result.</summary>
    public long Count(PreviewResult result) => Interlocked.Read(ref _previews[(int)result]);

    /// <summary>Connections that were refused or closed because a bound was reached, without those that took too long.</summary>
    public long RefusedForWantOfRoom => Reasons.Where(r => r is not (ClosingReason.FirstByte or ClosingReason.Headers)).Sum(Count);

    /// <summary>Publishes the number of connections in a table, and its limit.</summary>
    public void Watch(ConnectionTable table)
    {
        _meter.CreateObservableGauge(
            "pandora_connections", () => Now(table),
            description: "Open connections, by state: unadmitted (no request was accepted yet), admitted");
        _meter.CreateObservableGauge(
            "pandora_max_connections", () => table.Limit, description: "Largest number of connections that may be open at once");
    }

    /// <summary>Counts a connection that was refused, or closed before a valid key came on it.</summary>
    public void Refused(ClosingReason reason) => Interlocked.Increment(ref _refused[(int)reason]);

    /// <summary>Connections that were refused or closed for one reason.</summary>
    public long Count(ClosingReason reason) => Interlocked.Read(ref _refused[(int)reason]);

    /// <summary>Counts a request that was answered with 401.</summary>
    public void Unauthorized() => Interlocked.Increment(ref _unauthorized);

    /// <summary>Requests that were refused because too many wrong keys came from their address.</summary>
    public long RefusedGuesses => Interlocked.Read(ref _guesses);

    /// <summary>Counts a request that was refused because too many wrong keys came from its address.</summary>
    public void GuessRefused() => Interlocked.Increment(ref _guesses);

    /// <summary>Counts a line that is missing in the audit's file.</summary>
    public void AuditLost() => Interlocked.Increment(ref _auditLost);

    /// <summary>Lines that are missing in the audit's file.</summary>
    public long AuditLostCount => Interlocked.Read(ref _auditLost);

    private IEnumerable<Measurement<long>> Previews() =>
        Results.Select(r => new Measurement<long>(Count(r), new KeyValuePair<string, object?>("result", Label.Of(r))));

    private IEnumerable<Measurement<long>> Refusals() =>
        Reasons.Select(r => new Measurement<long>(Count(r), new KeyValuePair<string, object?>("reason", Label.Of(r))));

    private static Measurement<int>[] Now(ConnectionTable table)
    {
        var (unadmitted, admitted) = table.Counts;
        return [Measured(unadmitted, "unadmitted"), Measured(admitted, "admitted")];
    }

    private static Measurement<int> Measured(int count, string state) => new(count, new KeyValuePair<string, object?>("state", state));
}
