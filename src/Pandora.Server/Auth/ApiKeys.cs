using System.Security.Cryptography;
using System.Text;
using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;

namespace Pandora.Server.Auth;

/// <summary>Lets in who shows a key, where keys are set. Keys are compared by their hashes in constant time, all of them always. The key for metrics opens nothing but <c>/metrics</c>.</summary>
internal sealed class ApiKeys(RequestDelegate next, ServerOptions options, Unauthorized unauthorized, ILogger<ApiKeys> logger)
{
    // Asked without a key by balancers and scripts; it tells nothing that a stranger could use.
    private static readonly string[] Open = ["/ready"];
    private readonly byte[][] _hashes = [.. options.Keys.Select(Hash)];
    private readonly byte[][] _forMetrics = [.. options.Keys.Append(options.MetricsKey).Where(k => k.Length > 0).Select(Hash)];

    /// <summary>Handles a request.</summary>
    public async Task InvokeAsync(HttpContext context)
    {
        var path = context.Request.Path.Value;
        // With a key for metrics alone, the API is as open as without one, and metrics are not.
        // As laxly as routes are matched: in any case, and what is below it too.
        var hashes = context.Request.Path.StartsWithSegments("/metrics") ? _forMetrics : _hashes;
        var key = ShownKey(context.Request);
        var shown = Hash(key);
        var isKnown = hashes.Length == 0 || IsKnown(shown, hashes);
        if (isKnown)
        {
            // Not for what is open: anybody can ask for that.
            context.Features.Get<IAdmission>()?.Admit();
        }
        else if (!Open.Contains(path))
        {
            unauthorized.Report(context.Connection.RemoteIpAddress, key.Length > 0);
            context.Response.Headers.WWWAuthenticate = "Bearer";
            await Problems.Create(401, ProblemCodes.Unauthorized, "show a key of this server's as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'").ExecuteAsync(context);
            return;
        }

        var keyId = hashes.Length > 0 ? Convert.ToHexStringLower(shown.AsSpan(0, 4)) : null;
        using (logger.BeginScope(new ClientScope($"{context.Connection.RemoteIpAddress}", keyId)))
        {
            await next(context);
        }
    }

    private static byte[] Hash(string key) => SHA256.HashData(Encoding.UTF8.GetBytes(key));

    private static string ShownKey(HttpRequest request)
    {
        const string Scheme = "Bearer ";
        var authorization = request.Headers.Authorization.ToString();
        return authorization.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) ? authorization[Scheme.Length..].Trim() : request.Headers["X-API-Key"].ToString();
    }

    private static bool IsKnown(byte[] hash, byte[][] hashes)
    {
        var isKnown = false;
        foreach (var known in hashes)
        {
            isKnown |= CryptographicOperations.FixedTimeEquals(hash, known);
        }

        return isKnown;
    }
}
