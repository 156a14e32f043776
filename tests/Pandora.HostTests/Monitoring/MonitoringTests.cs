using System.Text.RegularExpressions;
using Pandora.TestHost;
using Pandora.Load;

namespace Pandora.HostTests.Monitoring;

/// <summary>A server after a load, and a real Prometheus that scraped the server before, during and after the load.</summary>
public sealed class MonitoredServer : ServerFixture
{
    internal const string Key = "a-key-for-metrics-0123";

    internal Prometheus Prometheus { get; private set; } = null!;

    internal override Dictionary<string, string> Settings => new()
    {
        ["PANDORA_POOL_SIZE"] = "2",
        ["PANDORA_METRICS_KEY"] = Key,
        ["PANDORA_METRICS_LISTEN"] = "http://93.183.0.2:9464",
    };

    public override async ValueTask InitializeAsync()
    {
        await base.InitializeAsync();
        Prometheus = await Prometheus.StartAsync(World.Host, Key);
        // Prometheus finds its targets some seconds after its start. A counter has a rate only after its second scrape.
        await UntilAsync("count_over_time(up[1m]) >= 2 and up == 1");

        // A counter that a scrape finds for the first time has no rate, whatever its value: it must grow between two scrapes.
        await LoadAsync(3);
        await UntilAsync("sum(pandora_sandboxes_ended_total{reason=\"deleted\"}) == 3 and sum(pandora_warm_vms) == 2");
        await LoadAsync(3);
        using (await Server.Http.GetAsync(new Uri("/sandboxes/nosuchsandbox", UriKind.Relative)))
        {
        }

        await Server.WaitForWarmAsync(2);
        await UntilAsync("sum(pandora_sandboxes_ended_total{reason=\"deleted\"}) == 6 and sum(pandora_warm_vms) == 2");
        // Time for another scrape and an evaluation.
        await Task.Delay(3 * Prometheus.Interval, TimeProvider.System);
    }

    public override async ValueTask DisposeAsync()
    {
        GC.SuppressFinalize(this);
        if (Prometheus is not null)
        {
            await Prometheus.DisposeAsync();
        }

        await base.DisposeAsync();
    }

    // One claim at a time, each with a warm microVM, so that no alert has a reason to fire.
    private async Task LoadAsync(int requests)
    {
        var run = new LoadRun(
            Server.Pandora,
            "",
            new LoadPlan
            {
                Requests = requests,
                Parallel = 1,
                ExecsPer = 2,
            },
            TimeProvider.System)
        {
            BeforeEach = _ => Server.WaitForWarmAsync(1),
        };
        Assert.Equal(requests, (await run.RunAsync(CancellationToken.None)).Succeeded);
    }

    private async Task UntilAsync(string expression)
    {
        using var limit = new CancellationTokenSource(TimeSpan.FromMinutes(3), TimeProvider.System);
        while (!(await Prometheus.QueryAsync(expression)).Samples.Any())
        {
            await Task.Delay(TimeSpan.FromMilliseconds(200), TimeProvider.System, limit.Token);
        }
    }
}

/// <summary>Dashboard, rules and alerts, evaluated by a real Prometheus on the metrics of a real server.</summary>
public sealed partial class MonitoringTests(MonitoredServer fixture) : IClassFixture<MonitoredServer>
{
    // Metrics that are published and in no panel or rule, each with the reason.
    private static readonly Dictionary<string, string> Intended = new()
    {
        ["target_info"] = "a metric of OpenTelemetry; dropped at the scrape",
        ["instance:pandora_vm_exec_seconds:p99_5m"] = "recorded for clients' own objectives",
    };

    [Fact]
    public async Task Prometheus_scrapes_with_its_key_and_every_rule_is_healthy()
    {
        var targets = (await fixture.Prometheus.GetAsync("/api/v1/targets")).GetProperty("activeTargets").EnumerateArray().ToList();
        Assert.Equal(
            ("up", ""), (Assert.Single(targets).GetProperty("health").GetString(), targets[0].GetProperty("lastError").GetString()));
        var rules = (await fixture.Prometheus.GetAsync("/api/v1/rules"))
            .GetProperty("groups")
            .EnumerateArray()
            .SelectMany(g => g.GetProperty("rules").EnumerateArray())
            .ToList();
        Assert.Equal(Dashboard.Rules("recording.yml").Count + Dashboard.Rules("alerts.yml").Count, rules.Count);
        Assert.All(rules, r => Assert.Equal("ok", r.GetProperty("health").GetString()));
    }

    [Fact]
    public async Task Every_query_of_every_panel_has_data()
    {
        Assert.True(Dashboard.Queries().Count > 40);
        var wrong = new List<string>();
        foreach (var (panel, expression) in Dashboard.Queries())
        {
            var (type, samples) = await fixture.Prometheus.QueryAsync(expression);
            if (type != "vector" || !samples.Any(s => double.IsFinite(s.Value)) || samples.Any(s => s.Value < 0))
            {
                wrong.Add($"{panel}: {expression}: {type} of {samples.Count}: {string.Join(", ", samples.Take(5))}");
            }
        }

        Assert.Empty(wrong);
        foreach (var expression in Dashboard.Others())
        {
            Assert.Equal("vector", (await fixture.Prometheus.QueryAsync(expression)).Type);
        }
    }

    [Fact]
    public async Task Without_failures_no_alert_fires_and_counters_of_failures_are_zero()
    {
        foreach (var (name, expression, _) in Dashboard.Rules("alerts.yml"))
        {
            Assert.Equal(
                (name, "vector", 0),
                (
                    name,
                    (await fixture.Prometheus.QueryAsync(expression)).Type,
                    (await fixture.Prometheus.QueryAsync(expression)).Samples.Count));
        }

        foreach (
            var metric in new[] { "pandora_warm_boot_failures_total", "pandora_teardown_errors_total", "pandora_sandboxes_reaped_total" })
        {
            Assert.All((await fixture.Prometheus.QueryAsync($"sum({metric})")).Samples, s => Assert.Equal(0, s.Value));
        }
    }

    [Fact]
    public async Task The_metrics_count_exactly_the_load()
    {
        foreach (var (expression, expected) in new[]
        {
            ("sum(pandora_sandboxes_created_total)", 6.0),
            ("sum(pandora_executions_total{status=\"success\"})", 12),
            ("sum(pandora_vm_exec_seconds_count)", 12),
            ("sum(pandora_sandboxes_ended_total{reason=\"deleted\"})", 6),
            ("sum(pandora_warm_vms)", 2),
            ("sum(pandora_slots_held)", 2),
            ("count(pandora_info)", 1),
        })
        {
            var sample = Assert.Single((await fixture.Prometheus.QueryAsync(expression)).Samples);
            Assert.Equal((expression, expected), (expression, sample.Value));
        }

        Assert.True((await fixture.Prometheus.QueryAsync("sum(pandora_vmm_cpu_seconds_total)")).Samples[0].Value > 1);
        Assert.True((await fixture.Prometheus.QueryAsync("sum(pandora_vmm_memory_bytes)")).Samples[0].Value > 50e6);
    }

    [Fact]
    public async Task Panels_and_rules_name_existing_metrics_and_every_metric_is_in_a_panel_or_rule()
    {
        var published = Published(await ScrapeAsync());
        var recorded = Dashboard.Rules("recording.yml").Select(r => r.Name).ToHashSet();
        var expressions = Dashboard
            .Queries()
            .Select(q => q.Expression)
            .Concat(Dashboard.Others())
            .Concat(Dashboard.Rules("recording.yml").Select(r => r.Expression))
            .Concat(Dashboard.Rules("alerts.yml").Select(r => r.Expression));
        var used = expressions.SelectMany(Dashboard.MetricsOf).ToHashSet();
        Assert.DoesNotContain(used, m => m is not ("up" or "ALERTS") && !recorded.Contains(m) && !published.Contains(Family(m)));
        var inUse = used.Select(Family).ToHashSet();
        Assert.DoesNotContain(published.Concat(recorded), m => !inUse.Contains(m) && !Intended.ContainsKey(m));
        Assert.DoesNotContain(Intended.Keys, inUse.Contains);
    }

    [Fact]
    public void The_names_of_metrics_are_found_in_an_expression()
    {
        Assert.Equal(
            ["a_total", "b"],
            Dashboard
                .MetricsOf("""sum by (job) (rate(a_total{x="c_total", y=~"d"}[5m])) / on (job) group_left (z) b offset 1m > 2""")
                .Order());
        Assert.Equal(["nosuch_metric"], Dashboard.MetricsOf("histogram_quantile(0.5, nosuch_metric) or vector(0)"));
    }

    [Fact]
    public async Task Promtool_finds_nothing_wrong()
    {
        Assert.Equal("", await Prometheus.ToolAsync(["check", "metrics"], await ScrapeAsync()));
        var directory = Prometheus.CopyConfiguration(MonitoredServer.Key);
        try
        {
            Assert.Contains("SUCCESS", await Prometheus.ToolAsync(["check", "config", Path.Combine(directory, "prometheus.yml")]));
            Assert.Contains(
                "SUCCESS", await Prometheus.ToolAsync(["check", "rules", .. Directory.GetFiles(Path.Combine(directory, "rules"))]));
            Assert.Contains("SUCCESS", await Prometheus.ToolAsync(["test", "rules", Path.Combine(directory, "rules.test.yml")]));
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public async Task The_metrics_address_serves_metrics_to_clients_with_the_key_and_nothing_else()
    {
        foreach (
            var (path, key, status) in new[]
            {
                ("/metrics", MonitoredServer.Key, 200),
                ("/metrics", "", 401),
                ("/sandboxes", MonitoredServer.Key, 404),
                ("/health", MonitoredServer.Key, 404),
                ("/ready", "", 404),
                ("/METRICS", "", 401),
                ("/metrics/x", "", 401),
                ("/sandboxes", "", 404),
            })
        {
            using var request = new HttpRequestMessage(HttpMethod.Get, new Uri($"http://93.183.0.2:9464{path}"));
            request.Headers.Add("Authorization", $"Bearer {key}");
            // Any host name is accepted here, because a scraper may know the server by any name.
            request.Headers.Host = "host.docker.internal:9464";
            using var response = await fixture.Server.Http.SendAsync(request);
            Assert.Equal((path, status), (path, (int)response.StatusCode));
        }

        // The API's address still refuses an unknown host name, even with the metrics port in it.
        using var rebound = new HttpRequestMessage(HttpMethod.Get, new Uri("/sandboxes", UriKind.Relative));
        rebound.Headers.Host = "host.docker.internal:9464";
        using var refused = await fixture.Server.Http.SendAsync(rebound);
        Assert.Equal(400, (int)refused.StatusCode);
    }

    [Fact]
    public void Each_alert_has_a_test_and_an_entry_in_the_runbook()
    {
        var runbook = File.ReadAllText(Path.Combine(Repository.Root, "docs/operations.md"));
        var tests = File.ReadAllText(Path.Combine(Prometheus.Configuration, "rules.test.yml"));
        foreach (var (name, _, rule) in Dashboard.Rules("alerts.yml"))
        {
            Assert.Matches($"(?m)^#+ {name}$", runbook);
            Assert.Equal($"docs/operations.md#{name.ToLowerInvariant()}", $"{rule["annotations"]["runbook_url"]}");
            Assert.Matches($"alertname: {name}\\n\\s+exp_alerts:", tests);
        }
    }

    private static HashSet<string> Published(string text) => [.. TypeLine().Matches(text).Select(m => m.Groups["name"].Value)];

    private static string Family(string series) => HistogramSuffix().Replace(series, "");

    private async Task<string> ScrapeAsync()
    {
        using var request = new HttpRequestMessage(HttpMethod.Get, "/metrics");
        request.Headers.Add("Authorization", $"Bearer {MonitoredServer.Key}");
        using var response = await fixture.Server.Http.SendAsync(request);
        return await response.Content.ReadAsStringAsync();
    }

    [GeneratedRegex(@"(?m)^# TYPE (?<name>\S+) ")]
    private static partial Regex TypeLine();

    [GeneratedRegex("_(bucket|count|sum)$")]
    private static partial Regex HistogramSuffix();
}
