using Pandora.Engine.Sandboxes;

namespace Pandora.Mcp;

/// <summary>What the MCP front end needs from the server that it is part of.</summary>
public sealed record McpOptions
{
    /// <summary>Version of the server, as clients see it.</summary>
    public required string Version { get; init; }

    /// <summary>Makes a link to a port of a sandbox, which opens it without a key. The services are those of the request.</summary>
    public required Func<IServiceProvider, Sandbox, int, TimeSpan, MadeLink> MakeLink { get; init; }
}

/// <summary>A link to a port of a sandbox.</summary>
/// <param name="Url">The link, with its token.</param>
/// <param name="Expires">When it ends.</param>
public sealed record MadeLink(string Url, DateTimeOffset Expires);
