using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Auth;

/// <summary>Lets in who shows a key, where keys are set. The key for metrics opens nothing but <c>/metrics</c>.</summary>
internal sealed class ApiKeys(RequestDelegate next, ServerOptions options, Unauthorized unauthorized, ILogger<ApiKeys> logger)
{
    // Asked without a key by balancers and scripts; it tells nothing that a stranger could use.
    private static readonly string[] Open = ["/ready"];
    private readonly KnownKeys _keys = new(options.Keys);
    private readonly KnownKeys _forMetrics = new(options.Keys.Append(options.MetricsKey));

    /// <summary>Handles a request.</summary>
    public async Task InvokeAsync(HttpContext context)
    {
        var path = context.Request.Path.Value;
        // With a key for metrics alone, the API is as open as without one, and metrics are not.
        // As laxly as routes are matched: in any case, and what is below it too.
        var keys = context.Request.Path.StartsWithSegments("/metrics") ? _forMetrics : _keys;
        var key = KnownKeys.Shown(context.Request.Headers.Authorization, context.Request.Headers["X-API-Key"]);
        var shown = KnownKeys.Hash(key);
        if (keys.IsEmpty || keys.Has(shown))
        {
            // Not for what is open: anybody can ask for that.
            context.Features.Get<IAdmission>()?.Admit();
        }
        else if (!Open.Contains(path))
        {
            unauthorized.Report(context.Connection.RemoteIpAddress, key.Length > 0);
            context.Response.Headers.WWWAuthenticate = "Bearer";
            await Problems.Create(
                ErrorCodes.Unauthorized, "show a key of this server's as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
                .ExecuteAsync(context);
            return;
        }

        var keyId = keys.IsEmpty ? null : Convert.ToHexStringLower(shown.AsSpan(0, 4));
        using (logger.BeginScope(new ClientScope($"{context.Connection.RemoteIpAddress}", keyId)))
        {
            await next(context);
        }
    }
}
