using Microsoft.AspNetCore.Http.Features;

namespace Pandora.Server.Gateway;

/// <summary>The target of a request, as the client wrote it.</summary>
internal static class PreviewTarget
{
    /// <summary>Whether the target has no space and no control character. The web server lets some pass, and a program may take one for the
    /// end of the line.</summary>
    public static bool IsValid(HttpContext context) =>
        (context.Features.Get<IHttpRequestFeature>()?.RawTarget ?? "").All(c => c is > ' ' and not '\x7f');

    /// <summary>The path of a request, without the query. It begins with a slash.</summary>
    public static string PathOf(HttpContext context)
    {
        var raw = context.Features.Get<IHttpRequestFeature>()?.RawTarget ?? "";
        if (!raw.StartsWith('/'))
        {
            // The whole address, or the asterisk of OPTIONS.
            return context.Request.Path is { HasValue: true } path ? path.ToUriComponent() : "/";
        }

        var query = raw.IndexOf('?', StringComparison.Ordinal);
        return query < 0 ? raw : raw[..query];
    }

    /// <summary>A <c>Location</c> that leads to a target on the same host, whatever it looks like.</summary>
    public static string LocationOf(string target)
    {
        // Browsers read two slashes at the begin as a host's name after them, and take a backslash for a slash.
        var safe = target.Length > 1 && target[1] is '/' or '\\' ? "/." + target : target;
        return string.Concat(safe.Select(c => c is > ' ' and < '\x7f' ? $"{c}" : Uri.EscapeDataString($"{c}")));
    }
}
