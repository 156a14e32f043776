using System.Diagnostics.Metrics;

namespace Pandora.Engine.Telemetry;

/// <summary>What the engine measures. Names become Prometheus names by adding the unit and, for counters, <c>_total</c>. No label names a sandbox: series grow with templates only.</summary>
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
    private readonly Counter<long> _failures;
    private readonly Counter<long> _teardownErrors;
    private readonly Counter<long> _recovered;
    private readonly Counter<long> _snapshots;
    private readonly Counter<long> _restoreFailures;
    private readonly Gauge<double> _recovery;

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
        _failures = Meter.CreateCounter<long>("pandora_failures", description: "Operations that clients were refused or that failed, by code");
        _recovery = Meter.CreateGauge<double>("pandora_recovery", "s", "Time that the start of this server took to take over what an earlier one left");
        _recovered = Meter.CreateCounter<long>("pandora_recovered", description: "MicroVMs of an earlier server, by what became of them");
        _snapshots = Meter.CreateCounter<long>("pandora_snapshots", description: "Snapshots by what became of them: made, failed, damaged, changed, dropped");
        _restoreFailures = Meter.CreateCounter<long>("pandora_restore_failures", description: "MicroVMs that could not be restored from a snapshot and were booted instead");
        _teardownErrors = Meter.CreateCounter<long>("pandora_teardown_errors", description: "Resources that could not be undone, by kind");
    }

    /// <summary>For gauges that read what others hold.</summary>
    public Meter Meter { get; }

    /// <summary>Makes the series that count failures appear before the first one, so that they can be alerted on. To be called when the exporter listens.</summary>
    /// <param name="templates">The templates that a pool is kept of.</param>
    public void Announce(IEnumerable<string> templates)
    {
        foreach (var template in templates)
        {
            foreach (var status in new[] { "success", "error", "timeout" })
            {
                _executions.Add(0, Template(template), new("status", status));
            }

            _created.Add(0, Template(template));
            _restoreFailures.Add(0, Template(template));
            _reaped.Add(0, Template(template));
            foreach (var step in new[] { "slot", "record", "disk", "vmm", "agent", "guest" })
            {
                _bootFailures.Add(0, Template(template), new("step", step));
            }

            foreach (var reason in new[] { "deleted", "idle", "died", "shutdown" })
            {
                _ended.Add(0, Template(template), new("reason", reason));
            }
        }

        foreach (var outcome in new[] { "made", "failed", "damaged", "changed", "dropped" })
        {
            SnapshotEnded(outcome, 0);
        }

        foreach (var (operation, code) in new[] { ("create", "pool_empty"), ("create", "sandbox_limit"), ("create", "overloaded"), ("exec", "exec_timeout"), ("exec", "guest_unreachable"), ("exec", "sandbox_gone"), ("exec", "too_many_execs"), ("exec", "not_delivered") })
        {
            _failures.Add(0, new("operation", operation), new("code", code));
        }

        foreach (var kind in new[] { "process", "namespace", "interface", "cgroup", "directory", "file", "connection", "slot", "tracking" })
        {
            _teardownErrors.Add(0, new KeyValuePair<string, object?>("kind", kind));
        }
    }

    /// <summary>A microVM is up; <paramref name="start"/> is <c>boot</c> or <c>snapshot</c>.</summary>
    public void Booted(string template, string start, TimeSpan elapsed) => _boot.Record(elapsed.TotalSeconds, Template(template), new("start", start));

    /// <summary>A snapshot was <c>made</c>, or could not be (<c>failed</c>); was found <c>damaged</c> or <c>changed</c>, or was <c>dropped</c> because it failed to restore.</summary>
    public void SnapshotEnded(string outcome, int count = 1) => _snapshots.Add(count, new KeyValuePair<string, object?>("outcome", outcome));

    /// <summary>A microVM could not be restored.</summary>
    public void RestoreFailed(string template) => _restoreFailures.Add(1, Template(template));

    /// <summary>A step of a boot is done.</summary>
    public void BootStepped(string template, string step, TimeSpan elapsed) => _bootStep.Record(elapsed.TotalSeconds, Template(template), new("step", step));

    /// <summary>A boot failed.</summary>
    public void BootFailed(string template, string step) => _bootFailures.Add(1, Template(template), new("step", step));

    /// <summary>A client has its sandbox.</summary>
    public void Acquired(string template, TimeSpan elapsed)
    {
        _acquire.Record(elapsed.TotalSeconds, Template(template));
        _created.Add(1, Template(template));
    }

    /// <summary>A command ended: <c>success</c> (exit code 0), <c>error</c> (any other end), <c>timeout</c>.</summary>
    public void Executed(string template, string status, TimeSpan elapsed)
    {
        _exec.Record(elapsed.TotalSeconds, Template(template));
        _executions.Add(1, Template(template), new("status", status));
    }

    /// <summary>A sandbox ended.</summary>
    public void Ended(string template, string reason, TimeSpan lifetime, TimeSpan teardown)
    {
        _ended.Add(1, Template(template), new("reason", reason));
        _lifetime.Record(lifetime.TotalSeconds, Template(template));
        _teardown.Record(teardown.TotalSeconds, Template(template));
        if (reason == "idle")
        {
            _reaped.Add(1, Template(template));
        }
    }

    /// <summary>A client's operation (<c>create</c>, <c>exec</c>, <c>delete</c>) was refused or failed; the codes are those of the API's problems.</summary>
    public void Failed(string operation, string code) => _failures.Add(1, new("operation", operation), new("code", code));

    /// <summary>What an earlier server left was taken over.</summary>
    public void Recovered(int sandboxes, int warm, int lost, TimeSpan elapsed)
    {
        _recovery.Record(elapsed.TotalSeconds);
        _recovered.Add(sandboxes, new KeyValuePair<string, object?>("outcome", "sandbox"));
        _recovered.Add(warm, new KeyValuePair<string, object?>("outcome", "warm"));
        _recovered.Add(lost, new KeyValuePair<string, object?>("outcome", "lost"));
    }

    /// <summary>Something could not be undone.</summary>
    public void TeardownFailed(string kind) => _teardownErrors.Add(1, new KeyValuePair<string, object?>("kind", kind));

    private static KeyValuePair<string, object?> Template(string name) => new("template", name);
}
