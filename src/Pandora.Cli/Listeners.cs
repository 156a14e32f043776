using System.Globalization;

namespace Pandora.Cli;

/// <summary>Finds out which user's program listens on a port of this host.</summary>
/// <remarks>Kernel documentation: networking/proc_net_tcp.rst.</remarks>
internal static class Listeners
{
    private const string Listening = "0A";
    private static readonly string[] Tables = ["/proc/net/tcp", "/proc/net/tcp6"];

    /// <summary>
    /// Whether a program listens on a port, and each that does belongs to root or to a user. While no server runs, another user's program
    /// could listen there to be sent what is meant for the server.
    /// </summary>
    public static bool BelongTo(int port, int user)
    {
        var owners = Tables.Where(File.Exists).SelectMany(t => OwnersIn(File.ReadLines(t), port)).ToList();
        return owners.Count > 0 && owners.TrueForAll(o => o == 0 || o == user);
    }

    /// <summary>The users of the sockets that listen on a port.</summary>
    internal static IEnumerable<int> OwnersIn(IEnumerable<string> lines, int port)
    {
        foreach (var line in lines.Skip(1))
        {
            var words = line.Split(' ', StringSplitOptions.RemoveEmptyEntries);
            if (words.Length > 7 && words[3] == Listening && words[1].EndsWith($":{port:X4}", StringComparison.Ordinal))
            {
                yield return unchecked((int)uint.Parse(words[7], CultureInfo.InvariantCulture));
            }
        }
    }
}
