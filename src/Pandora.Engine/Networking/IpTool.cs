using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Lists the interfaces and namespaces of the host, and deletes them with ip(8). A delete does nothing when the name does not exist: the
/// kernel removes the interfaces of a deleted namespace by itself, some time later.
/// </summary>
internal static class IpTool
{
    /// <summary>Names of the host's interfaces. Not from /sys/class/net, which shows the namespace of the process that mounted
    /// it.</summary>
    public static IReadOnlyList<string> Links() =>
        [.. File.ReadLines("/proc/thread-self/net/dev").Where(l => l.Contains(':')).Select(l => l.Split(':')[0].Trim())];

    /// <summary>Names of the host's network namespaces.</summary>
    public static IReadOnlyList<string> Namespaces() => Directory.Exists(HostNames.NamespaceDirectory)
        ? [.. Directory.GetFileSystemEntries(HostNames.NamespaceDirectory).Select(p => Path.GetFileName(p))]
        : [];

    public static Task DeleteLinkAsync(string name) => DeleteAsync("link", name);

    public static Task DeleteNamespaceAsync(string name) => DeleteAsync("netns", name);

    private static async Task DeleteAsync(string kind, string name)
    {
        try
        {
            await Command.RunAsync("ip", [kind, "del", name]);
        }
        catch (CommandException e)
            when (e.Message.Contains("Cannot find device", StringComparison.Ordinal)
                || e.Message.Contains("No such file", StringComparison.Ordinal))
        {
            // It was never made, or no longer exists.
        }
    }
}
