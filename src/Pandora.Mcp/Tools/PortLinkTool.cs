using System.ComponentModel;
using Pandora.Engine;

namespace Pandora.Mcp.Tools;

/// <summary>Arguments of <c>port_link</c>.</summary>
internal sealed record PortLinkArguments
{
    [Description("The port, 1 to 65535.")]
    public required int Port { get; init; }

    [Description(Texts.InSandbox)]
    public required string Sandbox { get; init; }

    [Description("Seconds for which the link works, 1 to 86400; 3600 if left out.")]
    public double? Lifetime { get; init; }
}

/// <summary>A link.</summary>
internal sealed record LinkAnswer(
    string Sandbox, int Port, [property: Description("Opens the port without a key: show it to your user only.")] string Url,
    DateTimeOffset ExpiresAt);

/// <summary>Makes a link to a port of a sandbox. The port does not become public.</summary>
internal sealed class PortLinkTool() : PandoraTool<PortLinkArguments, LinkAnswer>(
    "port_link",
    "Link to a port",
    "Makes a link by which a browser reaches a web server that listens on a port of the sandbox, on any of its addresses. Everybody who "
        + "has the link can use the port until the link or the sandbox ends. Start the server first, with process_start.",
    Texts.Does(isOpen: true))
{
    private const double Usual = 3600, Longest = 24 * 3600;

    /// <inheritdoc/>
    protected override Task<ToolAnswer<LinkAnswer>> CallAsync(ToolCall call, PortLinkArguments arguments)
    {
        if (arguments.Port is < 1 or > 65_535)
        {
            throw PandoraException.Invalid("port", $"must be between 1 and 65535, and is {arguments.Port}");
        }

        var lifetime = arguments.Lifetime ?? Usual;
        if (!(lifetime >= 1 && lifetime <= Longest))
        {
            throw PandoraException.Invalid("lifetime", $"must be between 1 and {Longest:0} seconds, and is {lifetime}");
        }

        var sandbox = call.Sandboxes.Get(arguments.Sandbox);
        var link = call.Get<McpOptions>().MakeLink(call.Services, sandbox, arguments.Port, TimeSpan.FromSeconds(lifetime));
        return Task.FromResult(new ToolAnswer<LinkAnswer>(
            $"{link.Url} opens port {arguments.Port} of sandbox {sandbox.Id} until {link.Expires:u}; whether a server listens there was "
                + "not checked",
            new LinkAnswer(sandbox.Id, arguments.Port, link.Url, link.Expires)));
    }
}
