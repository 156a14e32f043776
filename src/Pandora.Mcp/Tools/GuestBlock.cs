using ModelContextProtocol.Protocol;

namespace Pandora.Mcp.Tools;

/// <summary>Blocks of answers that have what the guest wrote.</summary>
internal static class GuestBlock
{
    /// <summary>Marks one, for hosts that keep such text apart.</summary>
    public static ContentBlock Mark(ContentBlock block)
    {
        block.Meta = new() { ["pandora/from"] = "guest" };
        return block;
    }
}
