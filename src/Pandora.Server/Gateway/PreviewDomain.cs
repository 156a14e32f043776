using System.Net;
using Pandora.Engine;
using Pandora.Server.Hosting;

namespace Pandora.Server.Gateway;

/// <summary>
/// Checks the domain of previews. Browsers let sites share cookies, and treat them as one, below a registrable domain: guests must not be
/// there together with the API.
/// </summary>
internal static class PreviewDomain
{
    // The longest name before the domain: a port, a dash, an id and a dot.
    private const int MaxLength = 253 - 64;

    // Second-level names below which others register, where the first level is a country's.
    private static readonly string[] Registries = ["co", "com", "net", "org", "gov", "edu", "ac"];

    /// <summary>The domain of previews without a port; empty when none is set.</summary>
    public static string Of(ServerOptions options) => options.PreviewDomain.Split(':')[0];

    /// <summary>Checks the setting against the API's names.</summary>
    /// <param name="options">The settings.</param>
    /// <param name="names">The API's names, as <see cref="ListenAddress.AllowedHosts"/> lists them.</param>
    /// <exception cref="StartupException">It is no domain, or not one of its own.</exception>
    public static void Check(ServerOptions options, IEnumerable<string> names)
    {
        if (options.PreviewDomain.Length == 0)
        {
            return;
        }

        var domain = Of(options);
        if (Problem(options.PreviewDomain, domain) is { } problem)
        {
            throw new StartupException($"PANDORA_PREVIEW_DOMAIN={options.PreviewDomain} {problem}");
        }

        foreach (var name in names.Select(NameOf))
        {
            if (name == "*")
            {
                throw new StartupException(
                    $"PANDORA_PREVIEW_DOMAIN={options.PreviewDomain} must not be a domain of the API, and the API's names are not known: "
                        + "set PANDORA_ALLOWED_HOSTS to them");
            }

            if (!IPAddress.TryParse(name.Trim('[', ']'), out _) && Registrable(name) == Registrable(domain))
            {
                throw new StartupException(
                    $"PANDORA_PREVIEW_DOMAIN={options.PreviewDomain} shares the domain {Registrable(domain)} with '{name}', a name of the "
                        + "API: pages in previews could then use the API's cookies. Register another domain for previews");
            }
        }
    }

    private static string? Problem(string setting, string domain)
    {
        var labels = domain.Split('.');
        if (setting.Length > domain.Length
            && !(setting[(domain.Length + 1)..] is { Length: <= 5 } port && port.All(char.IsAsciiDigit)
                && int.TryParse(port, out var number) && number is >= 1 and <= 65_535))
        {
            return "has a port that is not between 1 and 65535";
        }

        if (!IsName(domain))
        {
            return "is not a DNS name in lower case, such as pandora-previews.example";
        }

        // No top-level domain is a number: an address ends with one.
        if (labels[^1].All(char.IsAsciiDigit))
        {
            return "is an address: previews need names below a domain";
        }

        if (labels[^1] == "localhost")
        {
            return "is below localhost, where previews are served without the setting";
        }

        return labels.Length < 2 || Registrable(domain).Split('.').Length < 2 || (labels.Length == 2 && IsRegistry(labels))
            ? "has too few labels: it must be a domain that you registered, such as pandora-previews.example"
            : null;
    }

    /// <summary>Whether a text is a DNS name in lower case that previews can be below.</summary>
    public static bool IsName(string domain) => domain.Length <= MaxLength && domain.Split('.').All(IsLabel);

    private static bool IsLabel(string label) =>
        label.Length is > 0 and <= 63 && label[0] != '-' && label[^1] != '-'
        && label.All(c => char.IsAsciiLetterLower(c) || char.IsAsciiDigit(c) || c == '-');

    // A pattern for the names below a name counts as the name.
    private static string NameOf(string host)
    {
        var name = host.ToLowerInvariant().TrimEnd('.');
        name = name.StartsWith("*.", StringComparison.Ordinal) ? name[2..] : name;
        var colon = name.LastIndexOf(':');
        return colon > 0 && !name.Contains(']') && name.IndexOf(':') == colon ? name[..colon] : name;
    }

    // Without the list of public suffixes: the last two labels, or three below a country's registry such as co.uk.
    private static string Registrable(string name)
    {
        var labels = name.Split('.');
        return string.Join('.', labels.TakeLast(labels.Length > 2 && IsRegistry(labels[^2..]) ? 3 : 2));
    }

    private static bool IsRegistry(string[] last) => last[1].Length == 2 && Registries.Contains(last[0]);
}
