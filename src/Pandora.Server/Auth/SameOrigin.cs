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
        var origin = context.Request.Headers.Origin.ToString();
        var isOwn = origin.Length == 0
            || (Uri.TryCreate(origin, UriKind.Absolute, out var uri)
                && uri.Authority.Equals(context.Request.Host.Value, StringComparison.OrdinalIgnoreCase));
        return isOwn && !FetchMetadata.IsFromOtherPage(context.Request)
            ? next(context)
            : Problems.Create(
                ErrorCodes.ForbiddenOrigin,
                $"a web page of {(isOwn || origin == "null" ? "another site" : origin)} may not use this server")
                .ExecuteAsync(context);
    }
}
