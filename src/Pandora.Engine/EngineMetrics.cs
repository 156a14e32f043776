using System.Diagnostics.Metrics;

namespace Pandora.Engine;

/// <summary>What the engine measures. Names become Prometheus names by adding the unit and, for counters, <c>_total</c>. No label names a sandbox.</summary>
public sealed class EngineMetrics
{
    /// <summary>Name of the meter.</summary>
    public const string MeterName = "Pandora.Engine";

    // 100 µs to 60 s, and for lifetimes to a day.
    private static readonly InstrumentAdvice<double> Latency = new() { HistogramBucketBoundaries = [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60] };
    private static readonly InstrumentAdvice<double> Lifetimes = new() { HistogramBucketBoundaries = [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400] };
    private readonly Histogram<double> _boot;
    private readonly Histogram<double> _bootStep;
    private readonly Histogram<double> _acquire;
    private readonly Histogram<double> _exec;
    private readonly Histogram<double> _teardown;
    private readonly Histogram<double> _lifetime;
    private readonly Counter<long> _executions;
    private readonly Counter<long> _created;
    private readonly Counter<long> _reaped;
    private readonly Counter<long> _bootFailures;
    private readonly Counter<long> _ended;
    private readonly Counter<long> _teardownErrors;

    /// <param name="factory">Where the meter comes from.</param>
    public EngineMetrics(IMeterFactory factory)
    {
        Meter = factory.Create(MeterName);
        _boot = Meter.CreateHistogram("pandora_vm_boot", "s", "Time to boot a microVM until its guest was reached", advice: Latency);
        _bootStep = Meter.CreateHistogram("pandora_vm_boot_step", "s", "Time of each step of a boot", advice: Latency);
        _acquire = Meter.CreateHistogram("pandora_sandbox_acquire", "s", "Time to claim a microVM for a client", advice: Latency);
        _exec = Meter.CreateHistogram("pandora_vm_exec", "s", "Time of a command in a guest", advice: Latency);
        _teardown = Meter.CreateHistogram("pandora_vm_teardown", "s", "Time until a sandbox's guest was dead and its files gone", advice: Latency);
        _lifetime = Meter.CreateHistogram("pandora_sandbox_lifetime", "s", "Time from claim to end", advice: Lifetimes);
        _executions = Meter.CreateCounter<long>("pandora_executions", description: "Commands by outcome");
        _created = Meter.CreateCounter<long>("pandora_sandboxes_created", description: "Sandboxes claimed");
        _reaped = Meter.CreateCounter<long>("pandora_sandboxes_reaped", description: "Sandboxes ended for idleness");
        _bootFailures = Meter.CreateCounter<long>("pandora_warm_boot_failures", description: "Boots that failed, by step");
        _ended = Meter.CreateCounter<long>("pandora_sandboxes_ended", description: "Sandboxes ended, by reason");
        _teardownErrors = Meter.CreateCounter<long>("pandora_teardown_errors", description: "Resources that could not be undone, by kind");
    }

    /// <summary>Makes the series that count failures appear before the first one, so that they can be alerted on. To be called when the exporter listens.</summary>
    public void Announce()
    {
        foreach (var status in new[] { "success", "error", "timeout" })
        {
            _executions.Add(0, new KeyValuePair<string, object?>("status", status));
        }

        _created.Add(0);
        _reaped.Add(0);
        foreach (var step in new[] { "slot", "record", "disk", "vmm", "guest" })
        {
            _bootFailures.Add(0, new KeyValuePair<string, object?>("step", step));
        }
    }

    /// <summary>For gauges that read what others hold.</summary>
    public Meter Meter { get; }

    /// <summary>A microVM is up.</summary>
    public void Booted(TimeSpan elapsed) => _boot.Record(elapsed.TotalSeconds);

    /// <summary>A step of a boot is done.</summary>
    public void BootStepped(string step, TimeSpan elapsed) => _bootStep.Record(elapsed.TotalSeconds, new KeyValuePair<string, object?>("step", step));

    /// <summary>A boot failed.</summary>
    public void BootFailed(string step) => _bootFailures.Add(1, new KeyValuePair<string, object?>("step", step));

    /// <summary>A client has its sandbox.</summary>
    public void Acquired(TimeSpan elapsed)
    {
        _acquire.Record(elapsed.TotalSeconds);
        _created.Add(1);
    }

    /// <summary>A command ended: <c>success</c> (exit code 0), <c>error</c> (any other end), <c>timeout</c>.</summary>
    public void Executed(string status, TimeSpan elapsed)
    {
        _exec.Record(elapsed.TotalSeconds);
        _executions.Add(1, new KeyValuePair<string, object?>("status", status));
    }

    /// <summary>A sandbox ended.</summary>
    public void Ended(string reason, TimeSpan lifetime, TimeSpan teardown)
    {
        _ended.Add(1, new KeyValuePair<string, object?>("reason", reason));
        _lifetime.Record(lifetime.TotalSeconds);
        _teardown.Record(teardown.TotalSeconds);
        if (reason == "idle")
        {
            _reaped.Add(1);
        }
    }

    /// <summary>Something could not be undone.</summary>
    public void TeardownFailed(string kind) => _teardownErrors.Add(1, new KeyValuePair<string, object?>("kind", kind));
}
