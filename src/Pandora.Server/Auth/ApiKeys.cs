using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Auth;

/// <summary>
/// Refuses requests without a valid key, where keys are needed, and those that the key's role does not include. What a key began ends with
/// it: when it is revoked or expires, its requests are cut, and its connections count as those of a client without a key. When the first
/// key is made, requests that passed without one are cut.
/// </summary>
internal sealed class ApiKeys(RequestDelegate next, Access access, KeyCheck check, ILogger<ApiKeys> logger)
{
    // Load balancers and scripts ask for this without a key. The answer contains nothing that an attacker could use.
    private static readonly string[] Open = ["/ready", "/e2b/health"];

    /// <summary>Handles a request, and fills in its caller.</summary>
    public async Task InvokeAsync(HttpContext context, Caller caller)
    {
        // The path is compared as routing compares it: in upper or lower case, with everything below it.
        var isForMetrics = context.Request.Path.StartsWithSegments("/metrics");
        Key? key = null;
        // Of an open path nothing ends the request.
        var ended = CancellationToken.None;
        if (access.LetsIn(isForMetrics))
        {
            ended = access.Closed;
        }
        else if (!Open.Contains(context.Request.Path.Value))
        {
            key = await FindAsync(context);
            if (key is null)
            {
                return;
            }

            if (!Includes(key.Entry.Role, isForMetrics))
            {
                await Problems.Create(ErrorCodes.Forbidden, Refusal(key)).ExecuteAsync(context);
                return;
            }

            access.Used(key);
            ended = key.Revoked;
            caller.Is(key);
        }

        if (key is not null || access.IsOpen)
        {
            // A request for an open path does not admit the connection: every client can send one.
            context.Features.Get<IAdmission>()?.Admit(ended);
        }

        using var cut = ended.UnsafeRegister(static request => ((HttpContext)request!).Abort(), context);
        using (logger.BeginScope(new ClientScope(context.Connection.RemoteIpAddress, caller)))
        {
            await next(context);
        }
    }

    // Null when the request was refused.
    private async Task<Key?> FindAsync(HttpContext context)
    {
        var (headers, address) = (context.Request.Headers, context.Connection.RemoteIpAddress);
        var shown = ShownKey.Of(headers.Authorization, headers["X-API-Key"]);
        var key = access.Find(shown);
        var refusal = key is null ? check.Refuse(shown.Length > 0, address) : check.Accept(key, address);
        if (refusal is null)
        {
            return key;
        }

        if (refusal.Code == ErrorCodes.Unauthorized)
        {
            context.Response.Headers.WWWAuthenticate = "Bearer";
        }

        await refusal.ToResult().ExecuteAsync(context);
        return null;
    }

    private static bool Includes(KeyRole role, bool isForMetrics) => role switch
    {
        KeyRole.Admin => true,
        KeyRole.Metrics => isForMetrics,
        _ => !isForMetrics,
    };

    private static string Refusal(Key key) => key.Entry.Role == KeyRole.Metrics
        ? "a key with the role 'metrics' opens /metrics and nothing else"
        : "a key with the role 'user' opens the sandboxes of its project; /metrics needs a key with the role 'metrics' or 'admin'";
}
