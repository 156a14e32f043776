using Pandora.Contracts;
using Pandora.Server.Api;

namespace Pandora.Server.Auth;

/// <summary>
/// Refuses requests that a web page of another origin makes a browser send. Such a page does harm without reading the answer, so CORS rules
/// would not stop it.
/// </summary>
public sealed class SameOrigin(RequestDelegate next)
{
    /// <summary>Handles a request.</summary>
    public Task InvokeAsync(HttpContext context)
    {
        var origin = context.Request.Headers.Origin.ToString();
        return
            origin.Length == 0
            || (
                Uri.TryCreate(origin, UriKind.Absolute, out var uri)
                && uri.Authority.Equals(context.Request.Host.Value, StringComparison.OrdinalIgnoreCase))
            ? next(context)
            : Problems.Create(ErrorCodes.ForbiddenOrigin, $"a web page of {origin} may not use this server").ExecuteAsync(context);
    }
}
