using Pandora.Agent.Protocol.Ports;

namespace Pandora.Agent.Ports;

/// <summary>Lists the ports on which programs listen.</summary>
internal static class PortList
{
    /// <summary>Makes the list: messages for the server, the last of which is <see cref="PortMessage.Done"/>.</summary>
    public static byte[] Make() => Make(ListeningSocket.ReadAll(), SocketOwners.Find);

    /// <summary>Makes the list of sockets.</summary>
    /// <param name="sockets">The sockets.</param>
    /// <param name="find">Finds the programs that have the sockets of some numbers.</param>
    internal static byte[] Make(
        IReadOnlyList<ListeningSocket> sockets, Func<IReadOnlySet<ulong>, Dictionary<ulong, SocketOwner>> find)
    {
        // Several sockets may share a port and an address (SO_REUSEPORT); one of them is enough.
        var listed = sockets
            .DistinctBy(s => (s.Port, Convert.ToHexString(s.Address)))
            .OrderBy(s => s.Port)
            .ThenBy(s => s.Address.Length)
            .ThenBy(s => Convert.ToHexString(s.Address), StringComparer.Ordinal)
            .Take(PortMessages.MaxListed)
            .ToList();
        var owners = find(listed.Select(s => s.Inode).ToHashSet());
        using var messages = new MemoryStream();
        foreach (var socket in listed)
        {
            var owner = owners.GetValueOrDefault(socket.Inode);
            var entry = new PortEntry(socket.Port, socket.Address, owner.Pid, owner.Program ?? "");
            messages.Write(PortMessages.Encode(PortMessage.Entry, entry.Encode()));
        }

        messages.Write(PortMessages.Encode(PortMessage.Done, []));
        return messages.ToArray();
    }
}
