using System.Net;
using Microsoft.AspNetCore.Http.Features;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Server.Gateway;

/// <summary>Changes what passes between a viewer and a program in a guest. Headers of one hop are removed by the base class.</summary>
/// <param name="host">The preview.</param>
/// <param name="target">Path and query of the request, as the client wrote them.</param>
/// <param name="cookie">The cookie that the answer sets besides the program's; null for none.</param>
internal sealed class PreviewTransformer(PreviewHost host, string target, string? cookie) : HttpTransformer
{
    // Browsers remember these for the host and its port, longer than the sandbox lives.
    private static readonly string[] DroppedBelowLocalhost = ["Strict-Transport-Security", "Alt-Svc"];

    // It clears the cookies of the whole domain, which are those of other previews.
    private static readonly string[] DroppedBelowDomain = ["Clear-Site-Data"];

    /// <inheritdoc/>
    public override async ValueTask TransformRequestAsync(
        HttpContext httpContext, HttpRequestMessage proxyRequest, string destinationPrefix, CancellationToken cancellationToken)
    {
        await base.TransformRequestAsync(httpContext, proxyRequest, destinationPrefix, cancellationToken);
        // The program has the target as it came: what is encoded twice or has dots in its path has a meaning for some.
        proxyRequest.RequestUri = new Uri(
            destinationPrefix + target, new UriCreationOptions { DangerousDisablePathAndQueryCanonicalization = true });
    }

    /// <inheritdoc/>
    public override async ValueTask<bool> TransformResponseAsync(
        HttpContext httpContext, HttpResponseMessage? proxyResponse, CancellationToken cancellationToken)
    {
        if (proxyResponse?.StatusCode == HttpStatusCode.SwitchingProtocols
            && httpContext.Features.Get<IHttpUpgradeFeature>() is not { IsUpgradableRequest: true })
        {
            // What follows such an answer is no HTTP to a proxy before the server.
            throw new InvalidOperationException("the program switched to a protocol for which the client did not ask");
        }

        var copiesBody = await base.TransformResponseAsync(httpContext, proxyResponse, cancellationToken);
        var headers = httpContext.Response.Headers;
        headers.SetCookie = PreviewCookie.Narrowed(headers.SetCookie);
        if (cookie is not null)
        {
            headers.Append("Set-Cookie", cookie);
        }

        foreach (var name in host.IsOfDomain ? DroppedBelowDomain : DroppedBelowLocalhost)
        {
            headers.Remove(name);
        }

        return copiesBody;
    }
}
