using Microsoft.Extensions.Primitives;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>
/// What a request to a preview shows that may be for Pandora: keys in headers, tokens in the query and in cookies. All else that looks like
/// a credential is the program's in the guest.
/// </summary>
internal sealed class PreviewCredentials
{
    /// <summary>Name of the query parameter with a link's token.</summary>
    public const string LinkName = "pandora_link";

    private static readonly string[] KeyHeaders = ["Authorization", "X-API-Key"];

    // Proxies before the server tell it the viewer's address in these; the guest must not learn it, nor believe what a client writes there.
    private static readonly string[] ProxyHeaders =
    [
        "Forwarded", "X-Real-IP", "X-Client-IP", "X-Original-For", "True-Client-IP", "CF-Connecting-IP", "CF-Connecting-IPv6",
        "Fastly-Client-IP", "Fly-Client-IP", "X-Azure-ClientIP", "X-Cluster-Client-IP", "X-Envoy-External-Address", "Via",
    ];

    private const string ForwardedPrefix = "X-Forwarded-";

    private PreviewCredentials(HttpRequest request, PreviewHost host, Access access)
    {
        foreach (var name in KeyHeaders)
        {
            // Several values would be several guesses for one that is counted. What is not counted is no credential, either.
            if (request.Headers[name] is [{ } value] && KeyIn(name, value) is var shown && MayBeKey(name, shown))
            {
                IsKeyShown = true;
                Key ??= access.Find(shown);
            }
        }

        (Query, LinkTokens) = Split(request.QueryString.Value ?? "");
        CookieTokens = [.. PreviewCookie.TokensOf(request.Headers.Cookie, host)];
    }

    /// <summary>The key of this server that the request shows; null for none.</summary>
    public Key? Key { get; }

    /// <summary>Whether the request shows what may be a key, of this server or not.</summary>
    public bool IsKeyShown { get; }

    /// <summary>The tokens in the query.</summary>
    public IReadOnlyList<string> LinkTokens { get; }

    /// <summary>The tokens in cookies.</summary>
    public IReadOnlyList<string> CookieTokens { get; }

    /// <summary>The query without tokens, from its question mark on; empty for none. Its other parameters are as they came.</summary>
    public string Query { get; }

    /// <summary>Reads what a request shows.</summary>
    public static PreviewCredentials Of(HttpRequest request, PreviewHost host, Access access) => new(request, host, access);

    /// <summary>Removes all of it from the headers, and what names the viewer. The query is <see cref="Query"/>. A key of this server is
    /// removed also where it was no credential: among several values, or as a Bearer without the form of one.</summary>
    public static void RemoveFrom(IHeaderDictionary headers, Access access)
    {
        foreach (var name in KeyHeaders)
        {
            if (headers[name].OfType<string>().Any(v => access.Find(KeyIn(name, v)) is not null))
            {
                headers.Remove(name);
            }
        }

        if (!StringValues.IsNullOrEmpty(headers.Cookie))
        {
            headers.Cookie = PreviewCookie.WithoutOurs(headers.Cookie);
        }

        foreach (var name in headers.Keys.Where(IsOfProxy).ToList())
        {
            headers.Remove(name);
        }
    }

    // Programs that read headers as CGI passes them cannot tell an underscore from a dash (RFC 3875, section 4.1.18).
    private static bool IsOfProxy(string header) =>
        header.Replace('_', '-') is var name
        && (name.StartsWith(ForwardedPrefix, StringComparison.OrdinalIgnoreCase)
            || ProxyHeaders.Contains(name, StringComparer.OrdinalIgnoreCase));

    // Programs use Authorization for tokens of their own, which are no guesses.
    private static bool MayBeKey(string header, string shown) =>
        Key.HasMadeForm(shown) || (header == "X-API-Key" && shown.Length >= Key.LeastLength);

    private static string KeyIn(string header, string value) =>
        header == "Authorization" ? ShownKey.Of(value, apiKey: null) : ShownKey.Of(authorization: null, value.Trim());

    private static (string Query, IReadOnlyList<string> Tokens) Split(string query)
    {
        if (query.Length < 2)
        {
            return (query, []);
        }

        var (kept, tokens) = (new List<string>(), new List<string>());
        foreach (var parameter in query[1..].Split('&'))
        {
            var pair = parameter.Split('=', 2);
            // Programs read a name that is percent-encoded as the same name.
            if (Uri.UnescapeDataString(pair[0]) == LinkName)
            {
                tokens.Add(pair.Length == 2 ? Uri.UnescapeDataString(pair[1]) : "");
            }
            else
            {
                kept.Add(parameter);
            }
        }

        return (kept.Count > 0 ? "?" + string.Join('&', kept) : "", tokens);
    }
}
