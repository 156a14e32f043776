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

    // By these, browsers report to the guest what else their viewers do: at the host, and at hosts below it, for as long as the guest says.
    private static readonly string[] Dropped = ["NEL", "Report-To", "Reporting-Endpoints"];

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
        if (proxyResponse is not null)
        {
            Check(proxyResponse, httpContext);
        }

        var copiesBody = await base.TransformResponseAsync(httpContext, proxyResponse, cancellationToken);
        var headers = httpContext.Response.Headers;
        var status = proxyResponse?.StatusCode;
        // The web server fails on a length of these, and on one that differs from the body. In HTTP/2 the client does not check it.
        if (status is HttpStatusCode.SwitchingProtocols or HttpStatusCode.NoContent or HttpStatusCode.ResetContent
            || proxyResponse?.Version.Major >= 2)
        {
            headers.ContentLength = null;
        }

        headers.SetCookie = PreviewCookie.Narrowed(headers.SetCookie);
        if (cookie is not null)
        {
            headers.Append("Set-Cookie", cookie);
        }

        foreach (var name in Dropped.Concat(host.IsOfDomain ? DroppedBelowDomain : DroppedBelowLocalhost))
        {
            headers.Remove(name);
        }

        // The web server fails on a body of these, too (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
        return copiesBody && status is not (HttpStatusCode.NoContent or HttpStatusCode.ResetContent or HttpStatusCode.NotModified);
    }

    /// <inheritdoc/>
    /// <exception cref="FormatException">The web server takes a trailer for invalid. The forwarder does not catch this.</exception>
    public override async ValueTask TransformResponseTrailersAsync(
        HttpContext httpContext, HttpResponseMessage proxyResponse, CancellationToken cancellationToken)
    {
        try
        {
            await base.TransformResponseTrailersAsync(httpContext, proxyResponse, cancellationToken);
        }
        catch (InvalidOperationException e)
        {
            throw new FormatException("the program sent a trailer with an invalid name or value", e);
        }
    }

    // The client takes these for HTTP, and the viewer, or a proxy before the server, would not.
    private static void Check(HttpResponseMessage answer, HttpContext context)
    {
        switch ((int)answer.StatusCode)
        {
            // What follows such an answer is no HTTP to a proxy before the server.
            case 101 when context.Features.Get<IHttpUpgradeFeature>() is not { IsUpgradableRequest: true }:
                throw new InvalidOperationException("the program switched to a protocol for which the client did not ask");
            case not 101 and < 200:
                throw new InvalidOperationException($"the program answered with the status {(int)answer.StatusCode:000}");
        }

        // The header is one of a single hop and does not pass, so a body in another coding would pass without its name.
        if (answer.Headers.NonValidated.TryGetValues("Transfer-Encoding", out var codings)
            && !(codings.Count == 1 && codings.ToString().Equals("chunked", StringComparison.OrdinalIgnoreCase)))
        {
            throw new InvalidOperationException("the program sent a body in a coding other than chunked");
        }
    }
}
