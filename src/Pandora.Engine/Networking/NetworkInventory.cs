using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;

namespace Pandora.Engine.Networking;

/// <summary>Lists and removes an instance's resources in the host's network. The instance id in their names finds them.</summary>
internal static class NetworkInventory
{
    /// <summary>Lists all resources.</summary>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="range">The range that is set for slots; null when the server chose one of its candidate ranges.</param>
    /// <param name="isSlot">Whether an address is the address of a slot in use.</param>
    /// <param name="rules">The host's rules as libnftables' JSON; null to list them here.</param>
    /// <exception cref="NftablesException">The rules cannot be listed.</exception>
    /// <exception cref="IOException">The kernel did not answer.</exception>
    public static IReadOnlyList<NetworkResource> List(HostNames names, string? range, Func<IPAddress, bool> isSlot, string? rules = null) =>
    [
        .. IpTool.Links().Where(n => n.StartsWith(names.InterfacePrefix, StringComparison.Ordinal))
            .Select(n => new NetworkResource(NetworkResourceKind.Interface, n, names.SlotOf(n))),
        .. IpTool.Namespaces().Where(n => n.StartsWith(names.NamespacePrefix, StringComparison.Ordinal))
            .Select(n => new NetworkResource(NetworkResourceKind.Namespace, n, names.SlotOf(n))),
        .. Rules(names, rules ?? ListRules()),
        // Every connection of a guest, and every connection to it, has the slot's address on one side.
        .. OrphanedSlots.GuestsIn(Conntrack.Read(names.ConnectionMark), range, isSlot)
            .Select(a => new NetworkResource(NetworkResourceKind.Tracking, $"{names.ConnectionMark}/{a}", Address: a)),
    ];

    /// <summary>Removes one resource.</summary>
    public static async Task RemoveAsync(NetworkResourceKind kind, string name)
    {
        switch (kind)
        {
            case NetworkResourceKind.Interface:
                await IpTool.DeleteLinkAsync(name);
                break;
            case NetworkResourceKind.Namespace:
                await IpTool.DeleteNamespaceAsync(name);
                break;
            case NetworkResourceKind.Rule:
                using (var nftables = new Nftables())
                {
                    nftables.Run($"delete {name}");
                }

                break;
            case NetworkResourceKind.Tracking:
                var parts = name.Split('/');
                Conntrack.Remove(uint.Parse(parts[0], CultureInfo.InvariantCulture), IPAddress.Parse(parts[1]));
                break;
        }
    }

    private static List<NetworkResource> Rules(HostNames names, string json)
    {
        var found = new List<NetworkResource>();
        foreach (var thing in JsonNode.Parse(json)?["nftables"]?.AsArray().OfType<JsonNode>() ?? [])
        {
            if (thing["table"] is { } table && table["name"]?.ToString() == names.TableName)
            {
                found.Add(new(NetworkResourceKind.Rule, $"table {table["family"]} {table["name"]}"));
            }
            else if (thing["rule"] is { } rule && rule["comment"]?.ToString() == names.RuleComment)
            {
                found.Add(new(NetworkResourceKind.Rule, $"rule {rule["family"]} {rule["table"]} {rule["chain"]} handle {rule["handle"]}"));
            }
        }

        return found;
    }

    private static string ListRules()
    {
        using var nftables = new Nftables();
        return nftables.Run("list ruleset", asJson: true);
    }
}
