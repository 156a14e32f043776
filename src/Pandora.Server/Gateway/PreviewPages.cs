using System.Text.Encodings.Web;
using Pandora.Contracts;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>
/// Answers requests to previews that no program in a guest answers: browsers get a page, all other clients get problem details. Whatever a
/// client wrote is encoded, and the page may load and run nothing.
/// </summary>
internal static class PreviewPages
{
    /// <summary>Seconds after which the page of a port on which no program listens asks again.</summary>
    public const int RetrySeconds = 2;

    private const string Policy = "default-src 'none'; style-src 'unsafe-inline'";
    private const string Style =
        "body{font:16px/1.5 system-ui,sans-serif;margin:12vh auto;max-width:38rem;padding:0 1rem;color-scheme:light dark}"
        + "h1{font-size:1.4rem}code{font-size:.95em}small{opacity:.7}";

    /// <summary>Whether a request is one of a browser that shows a page.</summary>
    public static bool AcceptsPage(HttpRequest request) => request.Headers.Accept.OfType<string>()
        .Any(a => a.Contains("text/html", StringComparison.OrdinalIgnoreCase));

    /// <summary>Answers with a refusal.</summary>
    /// <param name="context">The request, whose answer has not begun.</param>
    /// <param name="refusal">Why it is refused.</param>
    /// <param name="host">The preview; null when the host names none.</param>
    public static async Task WriteAsync(HttpContext context, Refusal refusal, PreviewHost? host)
    {
        var response = context.Response;
        response.Clear();
        response.Headers.CacheControl = "no-store";
        response.Headers["X-Content-Type-Options"] = "nosniff";
        response.Headers["Referrer-Policy"] = "no-referrer";
        if (refusal.Code == ErrorCodes.Unauthorized)
        {
            response.Headers.WWWAuthenticate = "Bearer";
        }

        if (!AcceptsPage(context.Request))
        {
            // The framework writes another type for a client that does not accept this one.
            context.Request.Headers.Accept = "application/problem+json";
            await refusal.ToResult().ExecuteAsync(context);
            return;
        }

        response.StatusCode = refusal.Code.Status;
        response.Headers.ContentSecurityPolicy = Policy;
        if (refusal.Code.RetryAfterSeconds is { } seconds)
        {
            response.Headers.RetryAfter = $"{seconds}";
        }

        response.ContentType = "text/html; charset=utf-8";
        await response.WriteAsync(PageOf(refusal, host), context.RequestAborted);
    }

    private static string PageOf(Refusal refusal, PreviewHost? host)
    {
        var (title, advice) = TextOf(refusal, host);
        var refresh = refusal.Code == ErrorCodes.PortClosed ? $"""<meta http-equiv="refresh" content="{RetrySeconds}">""" : "";
        return $"""
            <!doctype html>
            <html lang="en">
            <head>
            <meta charset="utf-8">
            <meta name="viewport" content="width=device-width">
            {refresh}
            <title>{Encode(title)}</title>
            <style>{Style}</style>
            </head>
            <body>
            <h1>{Encode(title)}</h1>
            <p>{Encode(Sentence(refusal.Detail))}</p>
            {string.Join('\n', advice.Select(a => $"<p>{a}</p>"))}
            <p><small>Pandora, {refusal.Code.Status} <code>{Encode(refusal.Code.Code)}</code></small></p>
            </body>
            </html>

            """;
    }

    // The advice is HTML: what comes from the request is encoded here.
    private static (string Title, IReadOnlyList<string> Advice) TextOf(Refusal refusal, PreviewHost? host)
    {
        var (port, id) = (host?.Port ?? 0, Encode(host?.Id ?? ""));
        return refusal.Code.Code switch
        {
            "unauthorized" =>
            (
                "This preview needs a link or a key",
                [
                    "A link may have expired. The owner of the sandbox makes a new one:",
                    $"<code>./pandora link {id} {port}</code>",
                    .. Forward(host),
                ]
            ),
            "port_closed" =>
            (
                $"No program listens on port {port}",
                [$"This page asks again every {RetrySeconds} seconds, and shows the program when it is there.", .. Forward(host)]
            ),
            "port_timeout" => ($"Port {port} does not answer", []),
            "port_bad_answer" => ($"Port {port} did not answer as a web server does", []),
            "sandbox_gone" => ("This sandbox has ended", ["It does not come back."]),
            "sandbox_not_found" => ("There is no such sandbox", []),
            "forbidden_origin" => ("A page of another site asked for this preview", ["Open the address itself to see it."]),
            _ => (refusal.Code.Title, []),
        };
    }

    private static IEnumerable<string> Forward(PreviewHost? host) => host is { IsOfDomain: false }
        ?
        [
            "For a program or a browser that does not find names below <code>localhost</code>, such as Safari, forward the port:",
            $"<code>./pandora forward {Encode(host.Id)} 0:{host.Port}</code>",
        ]
        : [];

    private static string Sentence(string text) => text.Length > 0 ? char.ToUpperInvariant(text[0]) + text[1..] + "." : text;

    private static string Encode(string text) => HtmlEncoder.Default.Encode(text);
}
