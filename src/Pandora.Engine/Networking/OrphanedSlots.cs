using System.Net;

namespace Pandora.Engine.Networking;

/// <summary>Finds and removes an instance's resources of slots that no microVM holds.</summary>
internal static class OrphanedSlots
{
    /// <summary>Removes the namespaces and interfaces of an instance, except those of living slots.</summary>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="living">Numbers of the slots that stay.</param>
    public static async Task RemoveAsync(HostNames names, IReadOnlySet<int> living)
    {
        bool IsOrphan(string name, string prefix) =>
            name.StartsWith(prefix, StringComparison.Ordinal) && !(names.SlotOf(name) is { } slot && living.Contains(slot));
        foreach (var link in IpTool.Links().Where(n => IsOrphan(n, names.InterfacePrefix)))
        {
            await IpTool.DeleteLinkAsync(link);
        }

        foreach (var name in IpTool.Namespaces().Where(n => IsOrphan(n, names.NamespacePrefix)))
        {
            await IpTool.DeleteNamespaceAsync(name);
        }
    }

    /// <summary>Deletes the connections that the host's kernel tracks for slots of an instance, except those of living slots.</summary>
    /// <param name="names">The instance's names on the host.</param>
    /// <param name="range">The range that is set for slots; null when the server chose one of its candidate ranges.</param>
    /// <param name="living">Addresses of the slots that stay.</param>
    public static void ForgetConnections(HostNames names, string? range, IReadOnlySet<string> living)
    {
        foreach (var address in GuestsIn(Conntrack.Read(names.ConnectionMark), range, a => living.Contains(a.ToString()))
            .Where(a => !living.Contains(a.ToString())))
        {
            Conntrack.Remove(names.ConnectionMark, address);
        }
    }

    /// <summary>Returns the slots' addresses in a list of tracked connections.</summary>
    /// <param name="connections">Connections of this instance's guests. One end of each is a slot.</param>
    /// <param name="range">The range that is set for slots; null when the server chose one of its candidate ranges.</param>
    /// <param name="isKnown">Whether an address is the address of a slot in use. If one end is such an address, the other end is not
    /// treated as a slot.</param>
    internal static IReadOnlyList<IPAddress> GuestsIn(
        IEnumerable<(IPAddress Source, IPAddress Destination)> connections, string? range, Func<IPAddress, bool> isKnown) =>
    [
        .. connections.SelectMany(c => new[] { c.Source, c.Destination }.Where(isKnown).ToArray() is { Length: > 0 } known
            ? known : [.. new[] { c.Source, c.Destination }.Where(a => IsSlotAddress(a, range))]).Distinct(),
    ];

    // A slot's address is the second address of a /30.
    private static bool IsSlotAddress(IPAddress address, string? range)
    {
        string[] ranges = range is null ? NetworkRules.CandidateRanges : [range];
        return (address.GetAddressBytes()[3] & 3) == 2
            && ranges.Any(r => Ipv4Network.TryParse(r, out var network) && network.Contains(address));
    }
}
