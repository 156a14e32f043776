namespace Pandora.Server.Auth;

/// <summary>
/// What a browser says about the page that makes it send a request (W3C Fetch Metadata). No page can change these headers. Programs and old
/// browsers send none.
/// </summary>
internal static class FetchMetadata
{
    /// <summary>Whether a page of another origin makes the browser send the request. A viewer who follows a link to a page of ours, which
    /// only reads, passes; a page that shows ours inside itself does not.</summary>
    public static bool IsFromOtherPage(HttpRequest request) =>
        // Of several values, one that another site has counts.
        Value(request, "Site").Split(',').Any(s => s.Trim().ToLowerInvariant() is "cross-site" or "same-site") && !IsVisit(request);

    /// <summary>Whether the browser says that a page of the same origin makes it send the request.</summary>
    public static bool IsFromOwnPage(HttpRequest request) => Value(request, "Site") == "same-origin";

    private static bool IsVisit(HttpRequest request) =>
        (HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method))
        && Value(request, "Mode") == "navigate" && Value(request, "Dest") == "document";

    private static string Value(HttpRequest request, string name) => request.Headers[$"Sec-Fetch-{name}"].ToString();
}
