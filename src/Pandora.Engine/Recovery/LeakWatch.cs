using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Recovery;

/// <summary>
/// Audits the host every fifteen seconds while the server runs, and reports orphans in <c>pandora_leaked_resources</c> and in the log. An
/// operator removes them: a server that is wrong about which microVMs live must not kill any.
/// </summary>
internal sealed partial class LeakWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(15);
    private readonly HostAudit _audit;
    private readonly LiveMicroVms _live;
    private readonly Counter<long> _repaired;
    private readonly ILogger _logger;
    private readonly PeriodicWork _work;
    private IReadOnlyList<AuditedResource> _last = [];
    private volatile IReadOnlyList<AuditedResource> _leaked = [];

    public LeakWatch(HostAudit audit, LiveMicroVms live, Meter meter, TimeProvider time, ILogger<LeakWatch> logger)
    {
        _audit = audit;
        _live = live;
        _logger = logger;
        meter.CreateObservableGauge(
            "pandora_leaked_resources", Measure, description: "Orphans: resources of this instance on the host without an owner, by kind");
        _repaired = meter.CreateCounter<long>(
            "pandora_records_mended", description: "Records of living microVMs that were damaged or gone and were repaired");
        _repaired.Add(0);
        _work = new PeriodicWork("The audit of the host", Interval, _ => ScanAsync(), time, logger);
    }

    public ValueTask DisposeAsync() => _work.DisposeAsync();

    private IEnumerable<Measurement<int>> Measure() =>
        Enum.GetValues<AuditedKind>().Select(k => new Measurement<int>(
            _leaked.Count(l => l.Kind == k), new KeyValuePair<string, object?>("kind", Label.Of(k))));

    private Task ScanAsync()
    {
        _live.Repair((id, problem) =>
        {
            _repaired.Add(1);
            LogRepaired(id, problem);
        }, LogNotRepaired);
        var now = _audit.Scan();
        var leaked = HostAudit.Confirm(_last, now).Where(r => r.Owner is null).ToList();
        foreach (var orphan in leaked.Except(_leaked))
        {
            LogLeaked(orphan.Kind, orphan.Name);
        }

        (_last, _leaked) = (now, leaked);
        return Task.CompletedTask;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Kind} {Name} has no owner: './pandora doctor --leaks --fix' removes it")]
    private partial void LogLeaked(AuditedKind kind, string name);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The record of living microVM {SandboxId} was wrong ({Problem}) and was repaired")]
    private partial void LogRepaired(string sandboxId, string problem);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The record of living microVM {SandboxId} could not be checked or repaired: {Error}. The next audit tries again")]
    private partial void LogNotRepaired(string sandboxId, string error);
}
