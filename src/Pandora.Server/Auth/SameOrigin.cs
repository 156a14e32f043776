using Pandora.Contracts;
using Pandora.Server.Api;

namespace Pandora.Server.Auth;

/// <summary>
/// Refuses requests that a web page of another origin makes a browser send. Such a page does harm without reading the answer, so CORS rules
/// would not stop it. Browsers leave <c>Origin</c> out of requests that pages make for images and the like; for those they say by
/// <c>Sec-Fetch-Site</c> whose page it is. A link to the API that a person follows is no request of a page.
/// </summary>
public sealed class SameOrigin(RequestDelegate next)
{
    /// <summary>Handles a request.</summary>
    public Task InvokeAsync(HttpContext context)
    {
        var request = context.Request;
        var origin = request.Headers.Origin.ToString();
        if (origin.Length > 0 && !IsOwn(origin, request))
        {
            return Problems.Create(ErrorCodes.ForbiddenOrigin, $"a web page of {origin} may not use this server").ExecuteAsync(context);
        }

        return IsOfAnotherSite(request.Headers) && !IsNavigation(request)
            ? Problems.Create(ErrorCodes.ForbiddenOrigin, "a web page of another site may not use this server").ExecuteAsync(context)
            : next(context);
    }

    private static bool IsOwn(string origin, HttpRequest request) => Uri.TryCreate(origin, UriKind.Absolute, out var uri)
        && uri.Authority.Equals(request.Host.Value, StringComparison.OrdinalIgnoreCase);

    // W3C Fetch Metadata Request Headers. Of several values, one that another site has counts.
    private static bool IsOfAnotherSite(IHeaderDictionary headers) => headers["Sec-Fetch-Site"].ToString().Split(',')
        .Any(site => site.Trim().ToLowerInvariant() is "cross-site" or "same-site");

    private static bool IsNavigation(HttpRequest request) =>
        (HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method))
        && request.Headers["Sec-Fetch-Mode"] == "navigate"
        && request.Headers["Sec-Fetch-Dest"] == "document";
}
