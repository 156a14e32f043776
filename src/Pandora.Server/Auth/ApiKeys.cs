using System.Security.Cryptography;
using System.Text;
using Pandora.Contracts;
using Pandora.Server.Api;
using Pandora.Server.Hosting;

namespace Pandora.Server.Auth;

/// <summary>Lets in who shows a key, where keys are set. Keys are compared by their hashes in constant time, all of them always.</summary>
public sealed class ApiKeys(RequestDelegate next, ServerOptions options)
{
    // Asked without a key by balancers and scripts; it tells nothing that a stranger could use.
    private static readonly string[] Open = ["/ready"];
    private readonly byte[][] _hashes = [.. options.Keys.Select(k => SHA256.HashData(Encoding.UTF8.GetBytes(k)))];

    /// <summary>Handles a request.</summary>
    public Task InvokeAsync(HttpContext context)
    {
        if (_hashes.Length == 0 || Open.Contains(context.Request.Path.Value) || IsKnown(ShownKey(context.Request)))
        {
            return next(context);
        }

        context.Response.Headers.WWWAuthenticate = "Bearer";
        return Problems.Create(401, ProblemCodes.Unauthorized, "show a key of this server's as 'Authorization: Bearer KEY' or 'X-API-Key: KEY'").ExecuteAsync(context);
    }

    private static string ShownKey(HttpRequest request)
    {
        const string Scheme = "Bearer ";
        var authorization = request.Headers.Authorization.ToString();
        return authorization.StartsWith(Scheme, StringComparison.OrdinalIgnoreCase) ? authorization[Scheme.Length..].Trim() : request.Headers["X-API-Key"].ToString();
    }

    private bool IsKnown(string key)
    {
        var hash = SHA256.HashData(Encoding.UTF8.GetBytes(key));
        var isKnown = false;
        foreach (var known in _hashes)
        {
            isKnown |= CryptographicOperations.FixedTimeEquals(hash, known);
        }

        return isKnown;
    }
}
