using System.Text.Json.Nodes;
using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Adds accept rules to firewalls of other programs. A drop in another table beats an accept in Pandora's table. So where the host drops
/// forwarded packets (Docker, ufw, firewalld), an accept rule is inserted into that firewall: into the chain that Docker or ufw has for
/// other programs' rules, else into the dropping chain. The rules have the instance id as a comment, and are removed by that comment.
/// </summary>
internal sealed class ForeignFirewall(Nftables nftables, HostNames names)
{
    // The chains for other programs' rules: Docker documentation, "Packet filtering and firewalls"; ufw-framework(8).
    private static readonly string[] ChainsForOthers = ["DOCKER-USER", "ufw-before-forward"];
    private string Comment => names.RuleComment;

    /// <summary>Adds accept rules where a firewall drops guests' packets.</summary>
    /// <param name="withLocalDns">Whether guests must also reach a resolver on the host.</param>
    /// <param name="cancellationToken">Kills the tools.</param>
    /// <returns>The chains, for the log.</returns>
    public async Task<IReadOnlyList<string>> AcceptAsync(bool withLocalDns, CancellationToken cancellationToken)
    {
        var needed = Needed(List(), withLocalDns).ToList();
        foreach (var (name, rules) in needed)
        {
            nftables.Run(string.Join('\n', rules.Select(r => $"insert rule {name} {r} comment \"{Comment}\"")));
        }

        if (await LegacyDropsAsync(cancellationToken))
        {
            await LegacyAsync("-I", cancellationToken);
            return [.. needed.Select(n => n.Chain), "iptables-legacy FORWARD"];
        }

        return [.. needed.Select(n => n.Chain)];
    }

    /// <summary>Whether a needed accept rule is missing, because a firewall was installed or loaded again.</summary>
    public async Task<bool> IsIncompleteAsync(bool withLocalDns, CancellationToken cancellationToken)
    {
        var objects = List();
        var ours = objects.Select(o => o["rule"]).OfType<JsonNode>().Where(r => Text(r, "comment") == Comment)
            .CountBy(r => $"{Text(r, "family")} {Text(r, "table")} {Text(r, "chain")}").ToDictionary();
        return Needed(objects, withLocalDns).Any(n => ours.GetValueOrDefault(n.Chain) < n.Rules.Length)
            || (await LegacyDropsAsync(cancellationToken) && !await LegacyHasOursAsync(cancellationToken));
    }

    // Each chain with the rules that it needs, the last rule first.
    private IEnumerable<(string Chain, string[] Rules)> Needed(List<JsonNode> objects, bool withLocalDns)
    {
        var chains = objects.Select(o => o["chain"]).OfType<JsonNode>().ToList();
        var interfaces = $"\"{names.InterfacePrefix}*\"";
        foreach (var chain in chains.Where(c => Blocks(c, "forward", objects)))
        {
            var target = chains.FirstOrDefault(c => SameTable(c, chain) && ChainsForOthers.Contains(Text(c, "name"))) ?? chain;
            yield return (NameOf(target),
                [$"oifname {interfaces} ct state established,related counter accept", $"iifname {interfaces} counter accept"]);
        }

        foreach (var chain in withLocalDns ? chains.Where(c => Blocks(c, "input", objects)) : [])
        {
            yield return (NameOf(chain), [$"iifname {interfaces} meta l4proto {{ tcp, udp }} th dport 53 counter accept"]);
        }
    }

    private static string NameOf(JsonNode chain) => $"{Text(chain, "family")} {Text(chain, "table")} {Text(chain, "name")}";

    /// <summary>Removes this instance's accept rules from all tables.</summary>
    public async Task RemoveAsync(CancellationToken cancellationToken)
    {
        var deletes = List().Select(o => o["rule"]).OfType<JsonNode>()
            .Where(r => Text(r, "comment") == Comment)
            .Select(r => $"delete rule {Text(r, "family")} {Text(r, "table")} {Text(r, "chain")} handle {r["handle"]}");
        var text = string.Join('\n', deletes);
        if (text.Length > 0)
        {
            nftables.Run(text);
        }

        if (await LegacyHasOursAsync(cancellationToken))
        {
            await LegacyAsync("-D", cancellationToken);
        }
    }

    private List<JsonNode> List() =>
        [.. JsonNode.Parse(nftables.Run("list ruleset", asJson: true))?["nftables"]?.AsArray().OfType<JsonNode>() ?? []];

    // Whether this is a base chain of another program that drops by policy, or whose last rule drops or rejects every packet.
    private static bool Blocks(JsonNode chain, string hook, List<JsonNode> objects)
    {
        if (Text(chain, "hook") != hook
            || Text(chain, "family") is not ("ip" or "inet")
            || Text(chain, "table").StartsWith("pandora_", StringComparison.Ordinal))
        {
            return false;
        }

        var last = objects
            .Select(o => o["rule"])
            .LastOrDefault(r => r is not null && SameTable(r, chain) && Text(r, "chain") == Text(chain, "name"));
        var final = last?["expr"]?.AsArray().Where(e => e?["counter"] is null).ToList();
        return Text(chain, "policy") == "drop"
            || (final is [{ } only] && (only.AsObject().ContainsKey("reject") || only.AsObject().ContainsKey("drop")));
    }

    private static bool LegacyIsLoaded() =>
        File.Exists("/proc/net/ip_tables_names")
        && File.ReadAllText("/proc/net/ip_tables_names").Contains("filter", StringComparison.Ordinal)
        && File.Exists("/usr/sbin/iptables-legacy");

    private static async Task<bool> LegacyDropsAsync(CancellationToken cancellationToken) =>
        LegacyIsLoaded()
        && (await Command.RunAsync("iptables-legacy", ["-w", "-S", "FORWARD"], cancellationToken: cancellationToken)).Contains(
            "-P FORWARD DROP", StringComparison.Ordinal);

    private async Task<bool> LegacyHasOursAsync(CancellationToken cancellationToken) =>
        LegacyIsLoaded()
            && (await Command.RunAsync("iptables-legacy", ["-w", "-S", "FORWARD"], cancellationToken: cancellationToken))
            .Contains(Comment, StringComparison.Ordinal);

    private async Task LegacyAsync(string operation, CancellationToken cancellationToken)
    {
        var interfaces = names.InterfacePrefix + "+";
        string[] comment = ["-m", "comment", "--comment", Comment, "-j", "ACCEPT"];
        await Command.RunAsync(
            "iptables-legacy", ["-w", operation, "FORWARD", "-i", interfaces, .. comment], cancellationToken: cancellationToken);
        await Command.RunAsync(
            "iptables-legacy",
            ["-w", operation, "FORWARD", "-o", interfaces, "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", .. comment],
            cancellationToken: cancellationToken);
    }

    private static bool SameTable(JsonNode a, JsonNode b) => Text(a, "family") == Text(b, "family") && Text(a, "table") == Text(b, "table");

    private static string Text(JsonNode node, string key) => node[key]?.ToString() ?? "";
}
