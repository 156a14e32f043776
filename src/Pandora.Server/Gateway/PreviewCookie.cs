using System.Globalization;
using Microsoft.Extensions.Primitives;

namespace Pandora.Server.Gateway;

/// <summary>
/// The cookie that a link leaves in a browser. Its value is the link's token, and it has no <c>Domain</c>: the browser sends it to the
/// preview's own host only. A guest neither sees nor sets it, and sets its own cookies only for its own host.
/// </summary>
internal static class PreviewCookie
{
    /// <summary>Its name below localhost.</summary>
    public const string LocalName = "pandora_preview";

    /// <summary>Its name below the domain of previews. Browsers let no other host set a cookie with this prefix (RFC 6265bis, section
    /// 4.1.3.2).</summary>
    public const string DomainName = "__Host-pandora_preview";

    /// <summary>The tokens in the cookies of a request. A page can add cookies of the same name with other paths, so there may be
    /// several.</summary>
    public static IEnumerable<string> TokensOf(StringValues cookies, PreviewHost host)
    {
        var wanted = host.IsOfDomain ? DomainName : LocalName;
        return Split(cookies).Where(c => NameOf(c) == wanted).Select(c => c[(c.IndexOf('=', StringComparison.Ordinal) + 1)..].Trim());
    }

    /// <summary>The cookies of a request without ours.</summary>
    public static StringValues WithoutOurs(StringValues cookies)
    {
        var all = Split(cookies).ToList();
        if (!all.Any(IsOurs))
        {
            return cookies;
        }

        var rest = string.Join("; ", all.Where(c => !IsOurs(c)));
        return rest.Length > 0 ? rest : StringValues.Empty;
    }

    /// <summary>The <c>Set-Cookie</c> that a link leaves.</summary>
    public static string Of(PreviewLink link, PreviewHost host, DateTimeOffset now)
    {
        var rest = Math.Max(0, (long)Math.Ceiling((link.Expires - now).TotalSeconds)).ToString(CultureInfo.InvariantCulture);
        return host.IsOfDomain
            ? $"{DomainName}={link.Token}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={rest}"
            : $"{LocalName}={link.Token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={rest}";
    }

    /// <summary>The cookies that a guest sets: without ours, and without <c>Domain</c>, which would give them to other hosts.</summary>
    public static StringValues Narrowed(StringValues cookies) =>
        new([.. cookies.OfType<string>().Where(c => !IsOurs(c.Split(';')[0])).Select(WithoutDomain)]);

    private static string WithoutDomain(string cookie)
    {
        var parts = cookie.Split(';');
        var isDomain = parts.Skip(1).Select(p => NameOf(p).Equals("Domain", StringComparison.OrdinalIgnoreCase)).Prepend(false).ToList();
        return isDomain.Contains(true) ? string.Join(';', parts.Where((_, i) => !isDomain[i])) : cookie;
    }

    // Browsers send a cookie without a name as its value alone, which then reads as a name and a value.
    private static bool IsOurs(string cookie)
    {
        var name = NameOf(cookie);
        if (name.Length == 0)
        {
            name = NameOf(cookie[(cookie.IndexOf('=', StringComparison.Ordinal) + 1)..]);
        }

        return name.Equals(LocalName, StringComparison.OrdinalIgnoreCase) || name.Equals(DomainName, StringComparison.OrdinalIgnoreCase);
    }

    private static string NameOf(string pair)
    {
        var sign = pair.IndexOf('=', StringComparison.Ordinal);
        return (sign < 0 ? pair : pair[..sign]).Trim();
    }

    private static IEnumerable<string> Split(StringValues cookies) => cookies.OfType<string>()
        .SelectMany(c => c.Split(';', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries));
}
