using Pandora.Linux;

namespace Pandora.Engine.Networking;

/// <summary>Deletions by ip(8) that do nothing when there is nothing to delete: the kernel removes what is in a namespace when it likes, by itself.</summary>
internal static class IpTool
{
    public static Task DeleteLinkAsync(string name) => DeleteAsync("link", name);

    public static Task DeleteNamespaceAsync(string name) => DeleteAsync("netns", name);

    private static async Task DeleteAsync(string kind, string name)
    {
        try
        {
            await Command.RunAsync("ip", [kind, "del", name]);
        }
        catch (CommandException e) when (e.Message.Contains("Cannot find device", StringComparison.Ordinal) || e.Message.Contains("No such file", StringComparison.Ordinal))
        {
            // It was never made, or is gone already.
        }
    }
}
