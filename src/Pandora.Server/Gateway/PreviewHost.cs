using System.Diagnostics.CodeAnalysis;
using System.Globalization;

namespace Pandora.Server.Gateway;

/// <summary>What the host of a request is to previews.</summary>
internal enum HostKind
{
    /// <summary>No name of previews: the API decides whether it is one of its own.</summary>
    Other,

    /// <summary>The name of a preview.</summary>
    Preview,

    /// <summary>A name among those of previews that is none. The API is not served there either.</summary>
    Refused,
}

/// <summary>The name of a preview: <c>{port}-{id}.localhost</c> or <c>{port}-{id}.DOMAIN</c>.</summary>
/// <param name="Port">The port in the sandbox: 1 to 65,535.</param>
/// <param name="Id">The sandbox's id, as the name has it. There need not be such a sandbox.</param>
/// <param name="IsOfDomain">Whether it is a name of <see cref="Hosting.ServerOptions.PreviewDomain"/>, which is served by HTTPS.</param>
/// <param name="UrlPort">The port of the address, which the browser connects to; empty for the usual one.</param>
internal sealed record PreviewHost(int Port, string Id, bool IsOfDomain, string UrlPort)
{
    private const string Local = ".localhost", E2bApi = "api";

    // A label has at most 63 characters (RFC 1035, section 2.3.4).
    private const int MaxLabel = 63;

    /// <summary>Whether the preview is reached by HTTPS, or by HTTP.</summary>
    public string Scheme => IsOfDomain ? Uri.UriSchemeHttps : Uri.UriSchemeHttp;

    /// <summary>Reads a Host header, in upper or lower case, with a port or without, with a dot at the end or without.</summary>
    /// <param name="host">The header.</param>
    /// <param name="domain">The domain of previews without a port; empty for none.</param>
    /// <param name="preview">The preview, if it is the name of one.</param>
    public static HostKind Parse(string host, string domain, out PreviewHost? preview)
    {
        preview = null;
        var colon = host.IndexOf(':', StringComparison.Ordinal);
        var name = (colon < 0 ? host : host[..colon]).ToLowerInvariant();
        var port = colon < 0 ? "" : host[(colon + 1)..];
        // The suffix decides who answers, so it is looked for in whatever form the name comes.
        var bare = name.TrimEnd('.');
        var isOfDomain = domain.Length > 0 && (bare == domain || bare.EndsWith("." + domain, StringComparison.Ordinal));
        if (!isOfDomain && !bare.EndsWith(Local, StringComparison.Ordinal))
        {
            return HostKind.Other;
        }

        var label = bare[..Math.Max(0, bare.Length - (isOfDomain ? domain.Length + 1 : Local.Length))];
        // The E2B front end's API: no page and no cookie of a preview is served there, nor any cookie accepted.
        if (isOfDomain && label == E2bApi)
        {
            return HostKind.Other;
        }

        if (name.Length - bare.Length <= 1 && port.All(char.IsAsciiDigit) && TryParseLabel(label, out var guest, out var id))
        {
            preview = new PreviewHost(guest, id, isOfDomain, port is "80" or "443" ? "" : port);
            return HostKind.Preview;
        }

        return isOfDomain || IsLikePreview(label) ? HostKind.Refused : HostKind.Other;
    }

    /// <summary>Whether an Origin header is that of a preview of the same sandbox, which is the same guest, at the same address.</summary>
    public bool IsSameGuest(string origin, string domain)
    {
        var scheme = new[] { "https://", "http://" }.FirstOrDefault(s => origin.StartsWith(s, StringComparison.OrdinalIgnoreCase));
        return scheme is not null
            && Parse(origin[scheme.Length..], domain, out var other) == HostKind.Preview
            && other is not null
            && other.Id == Id && other.IsOfDomain == IsOfDomain && other.UrlPort == UrlPort
            // A page that came by HTTP may come from anybody in between.
            && (!IsOfDomain || scheme == "https://");
    }

    private static bool TryParseLabel(string label, out int port, [NotNullWhen(true)] out string? id)
    {
        (port, id) = (0, null);
        var dash = label.IndexOf('-', StringComparison.Ordinal);
        if (dash is < 1 or > 5 || label.Length > MaxLabel || label[0] == '0'
            || !int.TryParse(label.AsSpan(0, dash), NumberStyles.None, CultureInfo.InvariantCulture, out port) || port > 65_535)
        {
            return false;
        }

        id = label[(dash + 1)..];
        return id.Length > 0 && id.All(char.IsAsciiLetterOrDigit);
    }

    // Also of a name below one.
    private static bool IsLikePreview(string label)
    {
        var last = label[(label.LastIndexOf('.') + 1)..];
        var dash = last.IndexOf('-', StringComparison.Ordinal);
        return dash > 0 && last[..dash].All(char.IsAsciiDigit);
    }
}
