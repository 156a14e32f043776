using System.Text.Json;
using System.Text.RegularExpressions;
using Pandora.TestHost;
using YamlDotNet.RepresentationModel;

namespace Pandora.HostTests.Monitoring;

/// <summary>The expressions of the committed dashboard and rules.</summary>
internal static partial class Dashboard
{
    public static readonly string Path = System.IO.Path.Combine(Repository.Root, "deploy/monitoring/grafana/dashboards/pandora.json");

    // Keywords of PromQL that look like metrics.
    private static readonly HashSet<string> Words =
    [
        "by",
        "without",
        "on",
        "ignoring",
        "group_left",
        "group_right",
        "and",
        "or",
        "unless",
        "offset",
        "bool",
        "inf",
        "nan",
    ];

    /// <summary>Every query of every panel, with values in place of its variables.</summary>
    public static IReadOnlyList<(string Panel, string Expression)> Queries()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Path));
        return
        [
            .. document
                .RootElement.GetProperty("panels")
                .EnumerateArray()
                .Where(p => p.GetProperty("type").GetString() != "row")
                .SelectMany(p =>
                    p.GetProperty("targets")
                        .EnumerateArray()
                        .Select(t => (p.GetProperty("title").GetString()!, FillIn(t.GetProperty("expr").GetString()!)))),
        ];
    }

    /// <summary>The annotations' expressions and the variables' queries.</summary>
    public static IReadOnlyList<string> Others()
    {
        using var document = JsonDocument.Parse(File.ReadAllText(Path));
        return
        [
            .. document
                .RootElement.GetProperty("annotations")
                .GetProperty("list")
                .EnumerateArray()
                .Select(a => FillIn(a.GetProperty("expr").GetString()!)),
            .. document
                .RootElement.GetProperty("templating")
                .GetProperty("list")
                .EnumerateArray()
                .Where(v => v.GetProperty("type").GetString() == "query")
                .Select(v => LabelValues().Match(v.GetProperty("query").GetProperty("query").GetString()!).Groups["selector"].Value)
                .Select(FillIn),
        ];
    }

    /// <summary>The rules of a file: each with its name, expression and YAML node.</summary>
    public static IReadOnlyList<(string Name, string Expression, YamlMappingNode Rule)> Rules(string file)
    {
        var yaml = new YamlStream();
        using var reader = File.OpenText(System.IO.Path.Combine(Prometheus.Configuration, "rules", file));
        yaml.Load(reader);
        return
        [
            .. ((YamlSequenceNode)yaml.Documents[0].RootNode["groups"])
                .SelectMany(g => (YamlSequenceNode)g["rules"])
                .Cast<YamlMappingNode>()
                .Select(r => ($"{(r.Children.TryGetValue("record", out var record) ? record : r["alert"])}", $"{r["expr"]}", r)),
        ];
    }

    /// <summary>The metrics that an expression names.</summary>
    public static IReadOnlySet<string> MetricsOf(string expression)
    {
        var bare = Grouping().Replace(Braces().Replace(Strings().Replace(expression, ""), ""), " ");
        return Name()
            .Matches(bare)
            .Where(m =>
                !Words.Contains(m.Value) && (m.Index + m.Length == bare.Length || bare[(m.Index + m.Length)..].TrimStart() is not ['(', ..])
            )
            .Select(m => m.Value)
            .ToHashSet();
    }

    private static string FillIn(string expression) => expression
        .Replace("$__rate_interval", "10m", StringComparison.Ordinal).Replace("$__range", "5m", StringComparison.Ordinal)
        .Replace("$instance", ".*", StringComparison.Ordinal).Replace("$template", ".*", StringComparison.Ordinal);

    [GeneratedRegex("""^label_values\((?<selector>.*), \w+\)$""")]
    private static partial Regex LabelValues();

    [GeneratedRegex("\"[^\"]*\"")]
    private static partial Regex Strings();

    [GeneratedRegex(@"\{[^}]*\}|\[[^\]]*\]")]
    private static partial Regex Braces();

    [GeneratedRegex(@"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)")]
    private static partial Regex Grouping();

    [GeneratedRegex(@"(?<![\w:.])[a-zA-Z_:][\w:]*")]
    private static partial Regex Name();
}
