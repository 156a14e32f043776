using System.Diagnostics.Metrics;
using System.Reflection;
using System.Text.RegularExpressions;
using Microsoft.Extensions.DependencyInjection;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Networking;
using Pandora.Engine.Recovery;
using Pandora.Engine.Telemetry;
using Pandora.Server.Api;
using Pandora.Server.Gateway;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Tests.Telemetry;

/// <summary>Values of labels: all are announced, and files beside the code name only existing values.</summary>
public sealed partial class VocabularyTests
{
    // By metric and label, without the suffixes of histograms and counters.
    private static readonly Dictionary<(string Metric, string Label), string[]> Values = new()
    {
        [("pandora_executions", "status")] = [.. Label.All<ExecStatus>()],
        [("pandora_warm_boot_failures", "step")] = [.. Label.All<BootStep>()],
        [("pandora_vm_boot_step", "step")] = [.. Label.All<BootStep>()],
        [("pandora_vm_boot", "start")] = [.. Label.All<PoolStart>()],
        [("pandora_sandboxes_ended", "reason")] = [.. Label.All<EndReason>()],
        [("pandora_snapshots", "outcome")] = [.. Label.All<SnapshotOutcome>()],
        [("pandora_recovered", "outcome")] = [.. Label.All<RecoveryOutcome>()],
        [("pandora_teardown_errors", "kind")] = [.. Label.All<ResourceKind>()],
        [("pandora_port_connections", "kind")] = [.. Label.All<PortUse>()],
        [("pandora_port", "direction")] = [.. Label.All<PortDirection>()],
        [("pandora_preview_requests", "result")] = [.. Label.All<PreviewResult>()],
        [("pandora_leaked_resources", "kind")] = [.. Label.All<AuditedKind>()],
        [("pandora_protection_repairs", "what")] = [.. Label.All<ProtectionRepair>()],
        [("pandora_connections_refused", "reason")] = [.. Label.All<ClosingReason>()],
        [("pandora_failures", "operation")] = [.. Label.All<SandboxOperation>()],
        [("pandora_failures", "code")] =
            [.. ErrorCodes.All.Select(c => c.Code).Distinct(), EngineMetrics.Cancelled, EngineMetrics.NotDelivered],
    };

    [Fact]
    public void Every_value_is_announced()
    {
        var (instruments, announced) = CreateSeries();
        foreach (var (metric, label) in new[]
        {
            ("pandora_executions", "status"), ("pandora_warm_boot_failures", "step"), ("pandora_sandboxes_ended", "reason"),
            ("pandora_snapshots", "outcome"), ("pandora_recovered", "outcome"), ("pandora_teardown_errors", "kind"),
            ("pandora_failures", "operation"),
        })
        {
            var values = announced.Where(a => a.Metric == metric).Select(a => a.Labels[label]).Distinct();
            Assert.Equal(Values[(metric, label)].Order(), values.Order());
        }

        Assert.All(instruments.OfType<Counter<long>>(), i => Assert.Contains(announced, a => a.Metric == i.Name));
    }

    [Fact]
    public void Every_failure_is_announced_for_the_operations_that_can_have_it()
    {
        var failures = CreateSeries().Announced.Where(a => a.Metric == "pandora_failures")
            .Select(a => $"{a.Labels["operation"]} {a.Labels["code"]}").ToHashSet();
        foreach (var error in Enum.GetValues<PandoraError>())
        {
            var operations = Enum.GetValues<SandboxOperation>()
                .Where(o => Problems.OfEngine[error].Operations.HasFlag(Enum.Parse<ApiOperations>($"{o}"))).ToList();
            Assert.NotEmpty(operations);
            Assert.All(operations, o => Assert.Contains($"{Label.Of(o)} {Label.Of(error)}", failures));
        }

        string[] others =
        [
            "exec exec_timeout", "exec not_delivered", .. Label.All<SandboxOperation>().Select(o => $"{o} internal_error"),
            .. Label.All<SandboxOperation>().Select(o => $"{o} cancelled"),
        ];
        Assert.Superset(others.ToHashSet(), failures);
        Assert.DoesNotContain("delete pool_empty", failures);
    }

    [Fact]
    public void Rules_and_dashboards_query_only_existing_values()
    {
        var asked = Directory.EnumerateFiles(Repository.PathOf("deploy/monitoring"), "*", SearchOption.AllDirectories)
            .Where(f => Path.GetExtension(f) is ".yml" or ".json")
            // In JSON the quotes are escaped.
            .SelectMany(f => SelectorPattern().Matches(File.ReadAllText(f).Replace("\\\"", "\"", StringComparison.Ordinal)))
            .SelectMany(s => MatcherPattern().Matches(s.Groups["matchers"].Value)
                .Select(m => (Key: (s.Groups["metric"].Value, m.Groups["label"].Value), m.Groups["value"].Value)))
            .Where(a => Values.ContainsKey(a.Key)).ToList();
        Assert.True(asked.Count > 10, $"only {asked.Count} were found");
        Assert.All(asked, a => Assert.All(a.Value.Split('|'), v => Assert.Contains(v, Values[a.Key])));
    }

    [Theory]
    [InlineData("A boot")]
    [InlineData("A restore")]
    public void The_page_on_architecture_names_only_existing_steps(string section)
    {
        var text = Repository.Read("docs/architecture.md").Split($"## {section}\n")[1].Split("\n## ")[0];
        var steps = BoldPattern().Matches(text).Select(m => m.Groups["word"].Value).ToList();
        Assert.True(steps.Count >= 6, string.Join(' ', steps));
        Assert.All(steps, s => Assert.Contains(s, Label.All<BootStep>()));
    }

    [Fact]
    public void The_contracts_and_the_engine_use_the_same_names()
    {
        var states = typeof(CommandStates).GetFields(BindingFlags.Public | BindingFlags.Static).Select(f => (string)f.GetValue(null)!);
        Assert.Equal(Label.All<CommandOutcome>().Order(), states.Order());
        var operations = Enum.GetNames<ApiOperations>();
        Assert.All(Enum.GetNames<SandboxOperation>(), o => Assert.Contains(o, operations));
        var egress = typeof(CreateSandboxRequest).GetProperty(nameof(CreateSandboxRequest.Egress))!
            .GetCustomAttribute<System.ComponentModel.DataAnnotations.AllowedValuesAttribute>()!;
        Assert.Equal(Label.All<Egress>().Append(null), egress.Values);
    }

    private static (IReadOnlyList<Instrument> Instruments, IReadOnlyList<(string Metric, Dictionary<string, string> Labels)> Announced)
        CreateSeries()
    {
        using var services = new ServiceCollection().AddMetrics().BuildServiceProvider();
        var instruments = new List<Instrument>();
        var announced = new List<(string, Dictionary<string, string>)>();
        var factory = services.GetRequiredService<IMeterFactory>();
        using var listener = new MeterListener
        {
            InstrumentPublished = (instrument, self) =>
            {
                // The listener also receives the meters of other tests.
                if (instrument.Meter.Scope == factory)
                {
                    instruments.Add(instrument);
                    self.EnableMeasurementEvents(instrument);
                }
            },
        };
        listener.SetMeasurementEventCallback<long>((instrument, value, tags, _) =>
        {
            Assert.Equal(0, value);
            announced.Add((instrument.Name, tags.ToArray().ToDictionary(t => t.Key, t => $"{t.Value}")));
        });
        listener.Start();
        new EngineMetrics(factory).CreateSeries(["default"], Problems.Counted);
        return (instruments, announced);
    }

    [GeneratedRegex(@"(?<metric>pandora_[a-z_]+?)(_seconds)?(_total|_bucket|_sum|_count)?\{(?<matchers>[^}]*)\}")]
    private static partial Regex SelectorPattern();

    [GeneratedRegex(@"(?<label>\w+)\s*(=~|!~|!=|=)\s*""(?<value>[a-z_|]+)""")]
    private static partial Regex MatcherPattern();

    [GeneratedRegex(@"\*\*(?<word>[a-z]+)\*\*")]
    private static partial Regex BoldPattern();
}
