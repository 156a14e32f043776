using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Auth;

/// <summary>Refuses requests without a valid key, where keys are set. The key for metrics opens nothing but <c>/metrics</c>.</summary>
internal sealed class ApiKeys(RequestDelegate next, ServerOptions options, Unauthorized unauthorized, ILogger<ApiKeys> logger)
{
    // Load balancers and scripts ask for this without a key. The answer contains nothing that an attacker could use.
    private static readonly string[] Open = ["/ready"];
    private readonly KnownKeys _keys = new(options.Keys);
    private readonly KnownKeys _forMetrics = new(options.Keys.Append(options.MetricsKey));

    /// <summary>Handles a request, and fills in its caller.</summary>
    public async Task InvokeAsync(HttpContext context, Caller caller)
    {
        var path = context.Request.Path.Value;
        // When only the key for metrics is set, the API needs no key and /metrics needs that key.
        // The path is compared as routing compares it: in upper or lower case, with everything below it.
        var keys = context.Request.Path.StartsWithSegments("/metrics") ? _forMetrics : _keys;
        var key = KnownKeys.Shown(context.Request.Headers.Authorization, context.Request.Headers["X-API-Key"]);
        var shown = KnownKeys.Hash(key);
        if (keys.IsEmpty || keys.Has(shown))
        {
            // A request for an open path does not admit the connection: every client can send one.
            context.Features.Get<IAdmission>()?.Admit();
        }
        else if (!Open.Contains(path))
        {
            unauthorized.Report(context.Connection.RemoteIpAddress, key.Length > 0);
            context.Response.Headers.WWWAuthenticate = "Bearer";
            await Problems.Create(
                ErrorCodes.Unauthorized, "send a key of this server as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'")
                .ExecuteAsync(context);
            return;
        }

        caller.KeyId = keys.IsEmpty ? null : Convert.ToHexStringLower(shown.AsSpan(0, 4));
        using (logger.BeginScope(new ClientScope(context.Connection.RemoteIpAddress, caller)))
        {
            await next(context);
        }
    }
}
