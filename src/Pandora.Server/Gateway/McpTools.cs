using Pandora.Mcp;
using Pandora.Server.Api;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>The gateway's part in the MCP front end: links to ports.</summary>
internal static class McpTools
{
    /// <summary>What the front end needs from this server.</summary>
    public static McpOptions Options { get; } = new()
    {
        Version = HealthApi.Version,
        MakeLink = static (services, sandbox, port, lifetime) =>
        {
            var link = services.GetRequiredService<PreviewLinkMaker>()
                .Make(sandbox, port, lifetime.TotalSeconds, services.GetRequiredService<Caller>());
            return new MadeLink(link.Url, link.ExpiresAt);
        },
    };
}
