using System.Diagnostics.Metrics;
using Microsoft.Extensions.Logging;
using Pandora.Engine.MicroVms;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Recovery;

/// <summary>
/// Audits the host every fifteen seconds while the server runs, and tells of what is nobody's: <c>pandora_leaked_resources</c>, the log.
/// Removing it is left to people: who is wrong about what is alive must not be the one to kill it.
/// </summary>
internal sealed partial class LeakWatch : IAsyncDisposable
{
    private static readonly TimeSpan Interval = TimeSpan.FromSeconds(15);
    private readonly HostAudit _audit;
    private readonly LiveMicroVms _live;
    private readonly Counter<long> _mended;
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
            "pandora_leaked_resources", Measure, description: "Resources of this instance on the host that belong to nobody, by kind");
        _mended = meter.CreateCounter<long>(
            "pandora_records_mended", description: "Records of living microVMs that were damaged or gone and were written again");
        _mended.Add(0);
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
            _mended.Add(1);
            LogRepaired(id, problem);
        }, LogNotRepaired);
        var now = _audit.Scan();
        var leaked = HostAudit.Confirm(_last, now).Where(r => r.Owner is null).ToList();
        foreach (var left in leaked.Except(_leaked))
        {
            LogLeaked(left.Kind, left.Name);
        }

        (_last, _leaked) = (now, leaked);
        return Task.CompletedTask;
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "{Kind} {Name} has no owner: './pandora doctor --leaks --fix' removes it")]
    private partial void LogLeaked(AuditedKind kind, string name);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The record of living microVM {SandboxId} was not as it was written ({Problem}); it was written again")]
    private partial void LogRepaired(string sandboxId, string problem);

    [LoggerMessage(
        Level = LogLevel.Error,
        Message = "The record of living microVM {SandboxId} could not be looked at or written again: {Error}. It is tried again at the "
            + "next audit")]
    private partial void LogNotRepaired(string sandboxId, string error);
}
