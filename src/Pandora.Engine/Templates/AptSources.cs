using System.Text;
using System.Text.RegularExpressions;
using Pandora.Linux;

namespace Pandora.Engine.Templates;

/// <summary>
/// The package sources of the distribution, as the host's apt has them. Keys are the host's. Signature checks stay on. Credentials never
/// reach a guest.
/// </summary>
/// <param name="Distribution"><c>ID</c> in os-release(5), such as <c>debian</c>.</param>
/// <param name="Suite">Code name, such as <c>bookworm</c>.</param>
/// <param name="BuildLines">sources.list(5) lines as the host has them.</param>
/// <param name="GuestLines">The same lines without credentials and without paths of the host.</param>
/// <param name="BuildOptions">apt.conf(5) settings of the host that downloads need: proxies, time-stamp checks, credentials.</param>
/// <param name="GuestOptions">The build options that a guest needs too and that contain no credentials.</param>
internal sealed partial record AptSources(
    string Distribution,
    string Suite,
    IReadOnlyList<string> BuildLines,
    IReadOnlyList<string> GuestLines,
    IReadOnlyList<string> BuildOptions,
    IReadOnlyList<string> GuestOptions)
{
    private const string Format = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(SIGNED_BY)|$(ORIGIN)";

    /// <summary>Reads the sources from the host's apt.</summary>
    /// <exception cref="StartupException">The host is not Debian or Ubuntu, or apt has no package lists.</exception>
    public static async Task<AptSources> ReadAsync(CancellationToken cancellationToken)
    {
        var release = File.ReadLines("/etc/os-release")
            .Select(l => l.Split('=', 2))
            .Where(p => p.Length == 2)
            .ToDictionary(p => p[0], p => p[1].Trim('"'));
        var distribution = release.GetValueOrDefault("ID", "");
        var suite = release.GetValueOrDefault("VERSION_CODENAME", "");
        if (distribution is not ("debian" or "ubuntu") || suite.Length == 0)
        {
            throw new StartupException(
                $"templates are built from Debian's or Ubuntu's packages, and this host is '{distribution}': use your own root filesystem "
                    + "and kernel with './pandora template build NAME --rootfs FILE --kernel FILE'");
        }

        var targets = await Command.RunAsync(
            "apt-get", ["indextargets", "--format", Format, "Created-By: Packages"], cancellationToken: cancellationToken);
        var config = await Command.RunAsync("apt-config", ["dump"], cancellationToken: cancellationToken);
        return Parse(distribution, suite, targets, config);
    }

    internal static AptSources Parse(string distribution, string suite, string targets, string config)
    {
        var repositories = targets
            .Split('\n', StringSplitOptions.RemoveEmptyEntries)
            .Select(l => l.Split('|'))
            .Where(f =>
                f.Length == 5
                && f[4].Equals(distribution, StringComparison.OrdinalIgnoreCase)
                && f[1].StartsWith(suite, StringComparison.Ordinal))
            .Select(f => (Uri: f[0], Suite: f[1], Component: f[2], SignedBy: f[3]))
            .Distinct().ToList();
        if (repositories.Count == 0)
        {
            throw new StartupException(
                $"apt knows no packages of {distribution} {suite}: run 'apt-get update', and check that /etc/apt/sources.list names a "
                    + "mirror");
        }

        var options = config.Split('\n').Where(l => OptionPattern().IsMatch(l)).ToList();
        return new AptSources(
            distribution, suite,
            [.. repositories.Select(r => Line(r.Uri, r.Suite, r.Component, r.SignedBy))],
            [.. repositories.Select(r => Line(CredentialsPattern().Replace(r.Uri, "://"), r.Suite, r.Component, r.SignedBy))],
            options,
            [.. options.Where(o => !o.StartsWith("Dir::", StringComparison.Ordinal)).Select(o => CredentialsPattern().Replace(o, "://"))]);
    }

    private static string Line(string uri, string suite, string component, string signedBy)
    {
        var line = new StringBuilder("deb ");
        if (signedBy.StartsWith('/'))
        {
            line.Append($"[signed-by={signedBy}] ");
        }

        return line.Append($"{uri.TrimEnd('/')} {suite} {component}").ToString();
    }

    [GeneratedRegex(
        @"^(Acquire::(https?::(Proxy|Verify|CaInfo)|Check-(Valid-Until|Date)|Retries|ForceIPv4)|Dir::Etc::netrc(parts)?)\b.* ""[^""]+"";$",
        RegexOptions.IgnoreCase)]
    private static partial Regex OptionPattern();

    [GeneratedRegex("://[^/@\"]*@")]
    private static partial Regex CredentialsPattern();
}
