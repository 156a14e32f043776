using System.Diagnostics.Metrics;

namespace Pandora.Engine.Telemetry;

/// <summary>
/// The engine's metrics. A Prometheus name is the name here with the unit and, for counters, <c>_total</c> added. No label names a sandbox:
/// the number of series grows with templates only. The values of a label are those of an enum, written by <see cref="Label"/>.
/// </summary>
public sealed class EngineMetrics
{
    /// <summary>Name of the meter.</summary>
    public const string MeterName = "Pandora.Engine";

    /// <summary>Codes of failures that are not a <see cref="PandoraError"/> and that clients see: a command ran into its timeout; the
    /// server has a defect.</summary>
    internal const string ExecTimeout = "exec_timeout", InternalError = "internal_error";

    /// <summary>Codes of failures that no client sees: the client disconnected before the operation was done; the client did not read the
    /// whole result of a command.</summary>
    internal const string Cancelled = "cancelled", NotDelivered = "not_delivered";

    // Latencies: 100 µs to 60 s. Lifetimes: 100 ms to a day.
    private static readonly InstrumentAdvice<double> Latency = new()
    {
        HistogramBucketBoundaries =
            [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60],
    };

    private static readonly InstrumentAdvice<double> Lifetimes = new()
    {
        HistogramBucketBoundaries = [0.1, 0.5, 1, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400],
    };

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
    private readonly UpDownCounter<long> _connections;
    private readonly Counter<long> _portBytes;

    /// <param name="factory">Where the meter comes from.</param>
    public EngineMetrics(IMeterFactory factory)
    {
        Meter = factory.Create(MeterName);
        _boot = Meter.CreateHistogram("pandora_vm_boot", "s", "Time to start a microVM until its guest was reached", advice: Latency);
        _bootStep = Meter.CreateHistogram("pandora_vm_boot_step", "s", "Time of each step of a boot", advice: Latency);
        _acquire = Meter.CreateHistogram("pandora_sandbox_acquire", "s", "Time to claim a microVM for a client", advice: Latency);
        _exec = Meter.CreateHistogram(
            "pandora_vm_exec", "s", "Time from the request to the guest's agent to the end of the command and its output", advice: Latency);
        _teardown = Meter.CreateHistogram(
            "pandora_vm_teardown", "s", "Time to end a sandbox's guest and to remove its files", advice: Latency);
        _lifetime = Meter.CreateHistogram("pandora_sandbox_lifetime", "s", "Time from claim to end", advice: Lifetimes);
        _executions = Count("pandora_executions", "Commands by outcome");
        _created = Count("pandora_sandboxes_created", "Sandboxes claimed");
        _reaped = Count("pandora_sandboxes_reaped", "Sandboxes ended because they were idle");
        _bootFailures = Count("pandora_warm_boot_failures", "Boots that failed, by step");
        _ended = Count("pandora_sandboxes_ended", "Sandboxes ended, by reason");
        _failures = Count("pandora_failures", "Clients' operations that were refused or failed, by code");
        _recovery = Meter.CreateGauge<double>(
            "pandora_recovery", "s", "Time that this server's start took to recover the microVMs of an earlier server");
        _recovered = Count("pandora_recovered", "MicroVMs of an earlier server, by outcome of the recovery");
        _snapshots = Count("pandora_snapshots", "Snapshots, by outcome");
        _restoreFailures = Count(
            "pandora_restore_failures", "MicroVMs that could not be restored from a snapshot and were booted instead");
        _connections = Meter.CreateUpDownCounter<long>(
            "pandora_port_connections", description: "Open connections to programs in guests, by what opened them");
        _portBytes = Meter.CreateCounter<long>("pandora_port", "By", "Bytes over connections to programs in guests, by direction");
        _teardownErrors = Count("pandora_teardown_errors", "Resources that could not be undone, by kind");
    }

    /// <summary>The meter, for gauges that other classes add.</summary>
    public Meter Meter { get; }

    /// <summary>Creates the series of counters with the value 0, so that alerts see the first failure. Call it when the exporter
    /// listens.</summary>
    /// <param name="templates">The templates that have a pool.</param>
    /// <param name="failures">Each operation with the code of each error that it may fail with.</param>
    public void CreateSeries(IEnumerable<string> templates, IEnumerable<(SandboxOperation Operation, string Code)> failures)
    {
        foreach (var template in templates)
        {
            CreateSeries(_executions, "status", Label.All<ExecStatus>(), Template(template));
            CreateSeries(_bootFailures, "step", Label.All<BootStep>(), Template(template));
            CreateSeries(_ended, "reason", Label.All<EndReason>(), Template(template));
            _created.Add(0, Template(template));
            _restoreFailures.Add(0, Template(template));
            _reaped.Add(0, Template(template));
        }

        CreateSeries(_snapshots, "outcome", Label.All<SnapshotOutcome>());
        CreateSeries(_recovered, "outcome", Label.All<RecoveryOutcome>());
        CreateSeries(_teardownErrors, "kind", Label.All<ResourceKind>());
        foreach (var use in Enum.GetValues<PortUse>())
        {
            PortConnected(use, 0);
        }

        foreach (var direction in Enum.GetValues<PortDirection>())
        {
            PortMoved(direction, 0);
        }

        foreach (var (operation, code) in failures)
        {
            _failures.Add(0, Operation(operation), new("code", code));
        }

        foreach (var operation in Enum.GetValues<SandboxOperation>())
        {
            _failures.Add(0, Operation(operation), new("code", Cancelled));
        }

        _failures.Add(0, Operation(SandboxOperation.Exec), new("code", NotDelivered));
    }

    /// <summary>Records that a microVM has started.</summary>
    /// <param name="template">The microVM's template.</param>
    /// <param name="start">How it started.</param>
    /// <param name="elapsed">Time until the server reached its guest.</param>
    public void Booted(string template, PoolStart start, TimeSpan elapsed) =>
        _boot.Record(elapsed.TotalSeconds, Template(template), new("start", Label.Of(start)));

    /// <summary>Counts the outcome of a snapshot.</summary>
    public void SnapshotEnded(SnapshotOutcome outcome) => _snapshots.Add(1, Labelled("outcome", Label.Of(outcome)));

    /// <summary>Counts a microVM that could not be restored.</summary>
    public void RestoreFailed(string template) => _restoreFailures.Add(1, Template(template));

    /// <summary>Records the time of a step of a boot.</summary>
    public void BootStepped(string template, BootStep step, TimeSpan elapsed) =>
        _bootStep.Record(elapsed.TotalSeconds, Template(template), new("step", Label.Of(step)));

    /// <summary>Counts a boot that failed.</summary>
    public void BootFailed(string template, BootStep step) => _bootFailures.Add(1, Template(template), new("step", Label.Of(step)));

    /// <summary>Records a sandbox that was created for a client.</summary>
    public void Acquired(string template, TimeSpan elapsed)
    {
        _acquire.Record(elapsed.TotalSeconds, Template(template));
        _created.Add(1, Template(template));
    }

    /// <summary>Records a command that ended.</summary>
    public void Executed(string template, ExecStatus status, TimeSpan elapsed)
    {
        _exec.Record(elapsed.TotalSeconds, Template(template));
        _executions.Add(1, Template(template), new("status", Label.Of(status)));
    }

    /// <summary>Records a sandbox that ended.</summary>
    public void Ended(string template, EndReason reason, TimeSpan lifetime, TimeSpan teardown)
    {
        _ended.Add(1, Template(template), new("reason", Label.Of(reason)));
        _lifetime.Record(lifetime.TotalSeconds, Template(template));
        _teardown.Record(teardown.TotalSeconds, Template(template));
        if (reason == EndReason.Idle)
        {
            _reaped.Add(1, Template(template));
        }
    }

    /// <summary>Counts a client's operation that was refused or failed. The code is the API's, or one that only the engine has.</summary>
    public void Failed(SandboxOperation operation, string code) => _failures.Add(1, Operation(operation), new("code", code));

    /// <summary>Records the end of the recovery, with the number of microVMs of each outcome.</summary>
    public void Recovered(int sandboxes, int warm, int lost, TimeSpan elapsed)
    {
        _recovery.Record(elapsed.TotalSeconds);
        _recovered.Add(sandboxes, Labelled("outcome", Label.Of(RecoveryOutcome.Sandbox)));
        _recovered.Add(warm, Labelled("outcome", Label.Of(RecoveryOutcome.Warm)));
        _recovered.Add(lost, Labelled("outcome", Label.Of(RecoveryOutcome.Lost)));
    }

    /// <summary>Counts a connection to a program in a guest that was opened (1) or closed (-1).</summary>
    public void PortConnected(PortUse use, int change) => _connections.Add(change, Labelled("kind", Label.Of(use)));

    /// <summary>Counts bytes over a connection to a program in a guest.</summary>
    public void PortMoved(PortDirection direction, int bytes) => _portBytes.Add(bytes, Labelled("direction", Label.Of(direction)));

    /// <summary>Counts a resource that could not be undone.</summary>
    public void TeardownFailed(ResourceKind kind) => _teardownErrors.Add(1, Labelled("kind", Label.Of(kind)));

    private Counter<long> Count(string name, string description) => Meter.CreateCounter<long>(name, description: description);

    private static void CreateSeries(
        Counter<long> counter, string label, IEnumerable<string> values, params ReadOnlySpan<KeyValuePair<string, object?>> others)
    {
        foreach (var value in values)
        {
            counter.Add(0, [.. others, Labelled(label, value)]);
        }
    }

    private static KeyValuePair<string, object?> Labelled(string label, string value) => new(label, value);

    private static KeyValuePair<string, object?> Template(string name) => Labelled("template", name);

    private static KeyValuePair<string, object?> Operation(SandboxOperation operation) => Labelled("operation", Label.Of(operation));
}
