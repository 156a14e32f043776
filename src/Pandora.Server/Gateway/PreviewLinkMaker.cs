using Pandora.Contracts;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>Makes links to previews, for all front ends.</summary>
internal sealed class PreviewLinkMaker(PreviewLinks links, PreviewAddresses addresses, Access access)
{
    /// <summary>Makes a link.</summary>
    /// <param name="sandbox">The sandbox.</param>
    /// <param name="port">The port.</param>
    /// <param name="seconds">How long the link works, unless its key ends before.</param>
    /// <param name="caller">Who makes it.</param>
    /// <exception cref="Pandora.Engine.PandoraException">The port is none.</exception>
    public PortLink Make(Sandbox sandbox, int port, double seconds, Caller caller)
    {
        sandbox.RecordLink(port);
        // The token has whole seconds. A link does not outlive its key.
        var expires = links.Now.AddSeconds(seconds);
        expires = DateTimeOffset.FromUnixTimeSeconds(expires.ToUnixTimeSeconds() + 1);
        if (caller.KeyId is { } keyId && access.FindById(keyId)?.Entry.Expires is { } end && end < expires)
        {
            expires = DateTimeOffset.FromUnixTimeSeconds(end.ToUnixTimeSeconds() + 1);
        }

        var token = links.Make(sandbox.Id, port, expires, caller.KeyId);
        return new PortLink($"{addresses.Of(sandbox.Id, port)}?{PreviewCredentials.LinkName}={token}", expires);
    }
}
