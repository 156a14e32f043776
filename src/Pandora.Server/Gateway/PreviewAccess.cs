using System.Net;
using Pandora.Contracts;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>Why a request passes to a preview.</summary>
internal enum PreviewWay
{
    /// <summary>The port is public.</summary>
    Public,

    /// <summary>The request has a key of this server that may see the sandbox.</summary>
    Key,

    /// <summary>Its query has the token of a link.</summary>
    Link,

    /// <summary>A cookie has the token of a link.</summary>
    Cookie,

    /// <summary>The server needs no key.</summary>
    Open,
}

/// <summary>The decision about a request to a preview.</summary>
/// <param name="Way">Why it passes.</param>
/// <param name="Key">The key that it passes by, or by which its link was made; null for none.</param>
/// <param name="Link">The link in its query, whatever it passes by; null for none.</param>
/// <param name="Expires">When what it began must end; null for never.</param>
/// <param name="Ended">Cancelled when what it began must end.</param>
internal sealed record PreviewEntry(PreviewWay Way, Key? Key, PreviewLink? Link, DateTimeOffset? Expires, CancellationToken Ended);

/// <summary>
/// Decides who may use a preview, before the guest has anything to do with the request: everybody where the port is public, clients with a
/// key that may see the sandbox, those with a link or its cookie, and everybody where the server needs no key.
/// </summary>
internal sealed class PreviewAccess(SandboxRegistry registry, Access access, KeyCheck check, PreviewLinks links)
{
    /// <summary>Decides about a request.</summary>
    /// <param name="host">The preview.</param>
    /// <param name="shown">What the request shows.</param>
    /// <param name="address">Address of the client, or of the proxy before the server.</param>
    /// <returns>How it passes, or why it does not.</returns>
    public (PreviewEntry? Entry, Refusal? Refusal) Decide(PreviewHost host, PreviewCredentials shown, IPAddress? address)
    {
        var link = Find(shown.LinkTokens, host);
        if (registry.IsPublic(host.Id, host.Port))
        {
            return (new PreviewEntry(PreviewWay.Public, Key: null, link, Expires: null, CancellationToken.None), null);
        }

        Refusal? refusal = null;
        if (shown.Key is { } key)
        {
            refusal = check.Accept(key, address) ?? (MaySee(key, host.Id) ? null : RefusalOf(key, host.Id));
            if (refusal is null)
            {
                access.Used(key);
                return (new PreviewEntry(PreviewWay.Key, key, link, Expires: null, key.Revoked), null);
            }
        }

        if (link is not null)
        {
            return (EntryOf(PreviewWay.Link, link, link), null);
        }

        if (Find(shown.CookieTokens, host) is { } kept)
        {
            return (EntryOf(PreviewWay.Cookie, kept, shown: null), null);
        }

        if (access.LetsIn(isForMetrics: false))
        {
            return (new PreviewEntry(PreviewWay.Open, Key: null, Link: null, Expires: null, access.Closed), null);
        }

        return (null, refusal ?? check.Refuse(shown.IsKeyShown, address));
    }

    /// <summary>The sandboxes that may be seen by what a request passes by.</summary>
    public ProjectSandboxes SandboxesOf(PreviewEntry entry) => SandboxesOf(entry.Key);

    private PreviewEntry EntryOf(PreviewWay way, PreviewLink link, PreviewLink? shown) =>
        new(way, link.Key, shown, link.Expires, link.Key?.Revoked ?? access.Closed);

    private PreviewLink? Find(IReadOnlyList<string> tokens, PreviewHost host) => tokens
        .Select(t => links.Find(t, host))
        .FirstOrDefault(l => l is not null && (l.Key is null || MaySee(l.Key, host.Id)));

    private bool MaySee(Key key, string id) => key.Entry.Role switch
    {
        KeyRole.Admin => true,
        KeyRole.User => SandboxesOf(key).IsVisible(id),
        KeyRole.Metrics => false,
    };

    private ProjectSandboxes SandboxesOf(Key? key) =>
        key is null ? new ProjectSandboxes(registry) : new ProjectSandboxes(registry, key.Entry.Project, key.Entry.Role == KeyRole.Admin);

    private static Refusal RefusalOf(Key key, string id) => key.Entry.Role == KeyRole.Metrics
        ? new Refusal(ErrorCodes.Forbidden, "a key with the role 'metrics' opens /metrics and nothing else")
        : new Refusal(ErrorCodes.SandboxNotFound, $"there is no sandbox '{id}'");
}
