using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>
/// Interfaces and namespaces of the host, and their deletion by ip(8). Deleting does nothing when there is nothing to delete: the kernel
/// removes what is in a namespace when it likes, by itself.
/// </summary>
internal static class IpTool
{
    /// <summary>Names of the host's interfaces. Not from /sys/class/net, which shows the namespace of whoever mounted it.</summary>
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
            // It was never made, or is gone already.
        }
    }
}
