using System.Text.Json;
using System.Text.RegularExpressions;
using Pandora.TestHost;
using Pandora.Linux;
using YamlDotNet.RepresentationModel;

namespace Pandora.HostTests.Monitoring;

/// <summary>The files that a container engine and Grafana read, checked without either of them.</summary>
public sealed partial class DeploymentTests
{
    private static readonly string Monitoring = Path.Combine(Repository.Root, "deploy/monitoring");

    [Fact]
    public void Images_are_pinned_have_a_health_check_and_mount_only_files_that_exist()
    {
        var services = (YamlMappingNode)Load("compose.yaml")["services"];
        Assert.Equal(["prometheus", "grafana"], services.Children.Keys.Select(k => $"{k}"));
        foreach (var (_, service) in services.Children)
        {
            Assert.Matches(@"^[a-z]+/[a-z]+:v?\d+\.\d+\.\d+$", $"{service["image"]}");
            Assert.NotEmpty((YamlSequenceNode)service["healthcheck"]["test"]);
            Assert.Equal("ALL", $"{service["cap_drop"][0]}");
            Assert.All((YamlSequenceNode)service["ports"], p => Assert.StartsWith("127.0.0.1:", $"{p}"));
            foreach (
                var mount in ((YamlSequenceNode)service["volumes"])
                    .Select(v => Default().Replace($"{v}", "${default}"))
                    .Where(v => v.StartsWith('.')))
            {
                var source = Path.Combine(Monitoring, mount.Split(':')[0]);
                Assert.True(File.Exists(source) || Directory.Exists(source), source);
                Assert.EndsWith(":ro", mount);
            }
        }

        Assert.Equal("${GRAFANA_ADMIN_PASSWORD:-pandora}", $"{services["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"]}");
        foreach (var line in File.ReadLines(Path.Combine(Monitoring, "bridge.env")).Where(l => !l.StartsWith('#')))
        {
            Assert.Contains($"${{{line.Split('=')[0]}:-", File.ReadAllText(Path.Combine(Monitoring, "compose.yaml")));
        }
    }

    [Fact]
    public void Grafana_finds_its_data_source_and_its_dashboards_where_compose_puts_them()
    {
        var grafana = Load("compose.yaml")["services"]["grafana"];
        var mounts = ((YamlSequenceNode)grafana["volumes"]).Select(v => $"{v}").ToList();
        var source = Load("grafana/provisioning/datasources/prometheus.yml")["datasources"][0];
        Assert.Equal(("prometheus", "$PROMETHEUS_URL"), ($"{source["type"]}", $"{source["url"]}"));
        Assert.NotNull(grafana["environment"]["PROMETHEUS_URL"]);
        var provider = Load("grafana/provisioning/dashboards/pandora.yml")["providers"][0];
        Assert.Contains($"./grafana/dashboards:{provider["options"]["path"]}:ro", mounts);
        Assert.StartsWith($"{provider["options"]["path"]}/", $"{grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]}");
        using var dashboard = JsonDocument.Parse(File.ReadAllText(Dashboard.Path));
        Assert.Equal(
            $"{source["name"]}",
            dashboard.RootElement.GetProperty("templating").GetProperty("list")[0].GetProperty("current").GetProperty("text").GetString());
        Assert.Equal(
            $"{source["uid"]}",
            dashboard.RootElement.GetProperty("templating").GetProperty("list")[0].GetProperty("current").GetProperty("value").GetString());
    }

    [Fact]
    public void Panels_do_not_overlap_and_each_has_a_description()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Dashboard.Path));
        var taken = new HashSet<(int, int)>();
        var ids = new HashSet<int>();
        foreach (var panel in document.RootElement.GetProperty("panels").EnumerateArray())
        {
            Assert.True(ids.Add(panel.GetProperty("id").GetInt32()));
            var place = panel.GetProperty("gridPos");
            var (x, y, w, h) = (
                place.GetProperty("x").GetInt32(),
                place.GetProperty("y").GetInt32(),
                place.GetProperty("w").GetInt32(),
                place.GetProperty("h").GetInt32());
            Assert.True(x + w <= 24);
            Assert.All(
                Enumerable.Range(x, w).SelectMany(cx => Enumerable.Range(y, h).Select(cy => (cx, cy))),
                cell => Assert.True(taken.Add(cell), $"{panel.GetProperty("title")} overlaps another panel"));
            if (panel.GetProperty("type").GetString() != "row")
            {
                Assert.NotEmpty(panel.GetProperty("description").GetString()!);
            }
        }
    }

    [Fact]
    public async Task Grafanas_published_schema_accepts_the_dashboard_and_refuses_a_wrong_one()
    {
        Assert.SkipUnless(
            Environment.GetEnvironmentVariable("PATH")!.Split(':').Any(d => File.Exists(Path.Combine(d, "npm"))),
            "npm is not installed, which downloads Grafana's published schema");
        var version = Image().Match(File.ReadAllText(Path.Combine(Monitoring, "compose.yaml"))).Groups["version"].Value;
        var directory = Directory.CreateTempSubdirectory("pandora-grafana-").FullName;
        try
        {
            await File.WriteAllTextAsync(
                Path.Combine(directory, "package.json"),
                JsonSerializer.Serialize(
                    new Dictionary<string, object>
                    {
                        ["private"] = true,
                        ["dependencies"] = new Dictionary<string, string> { ["@grafana/schema"] = version, ["typescript"] = "5.9.3" },
                    }));
            await Command.RunAsync(
                "sh",
                [
                    "-c",
                    "cd \"$1\" && npm install --no-audit --no-fund --no-package-lock --ignore-scripts > log 2>&1 || { cat log; exit 1; }",
                    "npm",
                    directory,
                ]);
            File.Copy(
                Path.Combine(Repository.Root, "tests/Pandora.HostTests/Monitoring/GrafanaSchema/dashboard.ts"),
                Path.Combine(directory, "dashboard.ts"));
            var dashboard = await File.ReadAllTextAsync(Dashboard.Path);
            Assert.Equal("", await CompileAsync(directory, dashboard));
            foreach (
                var (good, bad) in new[]
                {
                    ("\"thresholdsStyle\"", "\"thresholdStyle\""),
                    ("\"palette-classic\"", "\"palette-klassic\""),
                    ("\"expr\"", "\"expression\""),
                    ("\"unit\": \"s\"", "\"units\": \"s\""),
                })
            {
                Assert.Contains(good, dashboard);
                Assert.Contains("error TS", await CompileAsync(directory, dashboard.Replace(good, bad, StringComparison.Ordinal)));
            }
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    private static async Task<string> CompileAsync(string directory, string dashboard)
    {
        await File.WriteAllTextAsync(
            Path.Combine(directory, "check.ts"),
            $"import type {{ PandoraDashboard }} from './dashboard';\nexport const dashboard: PandoraDashboard = {dashboard};\n");
        return await Command.RunAsync(
            "sh",
            [
                "-c",
                "cd \"$1\" && "
                    + "{ node node_modules/typescript/bin/tsc --noEmit --strict --skipLibCheck --target es2022 "
                    + "--module nodenext --moduleResolution nodenext check.ts || true; }",
                "tsc",
                directory,
            ]);
    }

    private static YamlNode Load(string path)
    {
        var yaml = new YamlStream();
        using var reader = File.OpenText(Path.Combine(Monitoring, path));
        yaml.Load(reader);
        return yaml.Documents[0].RootNode;
    }

    // ${NAME:-default}
    [GeneratedRegex(@"\$\{\w+:-(?<default>[^}]*)\}")]
    private static partial Regex Default();

    [GeneratedRegex(@"grafana/grafana:(?<version>\S+)")]
    private static partial Regex Image();
}
