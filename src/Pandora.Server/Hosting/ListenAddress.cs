using System.Diagnostics.CodeAnalysis;
using System.Net;
using Pandora.Engine;
using Pandora.Server.Auth;
using Pandora.Server.Hosting.Tls;
using Pandora.Vmm;

namespace Pandora.Server.Hosting;

/// <summary>
/// Checks where the server may listen. An address that is not loopback needs a key, and the operator's consent where the VMM is not a
/// security boundary.
/// </summary>
public static class ListenAddress
{
    /// <summary>Checks the address against the rest of the settings.</summary>
    /// <param name="options">The settings.</param>
    /// <param name="needsKey">Whether requests need a key.</param>
    /// <param name="vmm">The VMM.</param>
    /// <exception cref="StartupException">The setting is not an address, or the server may not listen on it.</exception>
    public static Uri Check(ServerOptions options, bool needsKey, VmmCapabilities vmm)
    {
        TlsListener.Check(options);
        if (!TryParse(options.Listen, out var address, options.TlsCertificate.Length > 0 ? Uri.UriSchemeHttps : Uri.UriSchemeHttp))
        {
            throw new StartupException($"PANDORA_LISTEN: '{options.Listen}' is not an address such as http://127.0.0.1:8000");
        }

        if (options.Keys.FirstOrDefault(k => k.Length < Key.LeastLength) is not null)
        {
            throw new StartupException("PANDORA_API_KEYS: a key has fewer than 16 characters; 'openssl rand -hex 20' makes a good one");
        }

        if (IsLoopback(address))
        {
            return address;
        }

        if (!needsKey)
        {
            throw new StartupException(
                $"PANDORA_LISTEN={options.Listen} is not a loopback address, so clients must send a key: make one with "
                    + "'./pandora key create', or "
                    + $"listen on http://127.0.0.1:{address.Port}");
        }

        return vmm.IsSecurityBoundary || options.AllowEmulated
            ? address
            : throw new StartupException(
                $"PANDORA_LISTEN={options.Listen} is not a loopback address, and {vmm.Isolation}: guests could break out. Set "
                    + "PANDORA_ALLOW_EMULATED=true if you trust everyone who can reach this address");
    }

    /// <summary>The host names that a request's Host header may have. With DNS rebinding a browser sends another name.</summary>
    public static IList<string> AllowedHosts(ServerOptions options, Uri address)
    {
        var isEveryAddress = IPAddress.TryParse(address.Host.Trim('[', ']'), out var ip)
            && (ip.Equals(IPAddress.Any) || ip.Equals(IPAddress.IPv6Any));
        // A server that listens on every address has no fixed name; there the key protects it.
        return isEveryAddress && options.AllowedHosts.Length == 0
            ? ["*"]
            :
            [
                address.Host,
                "localhost",
                "127.0.0.1",
                "[::1]",
                .. options.AllowedHosts.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries),
            ];
    }

    /// <summary>Reads <c>http://ADDRESS:PORT</c>.</summary>
    internal static bool TryParse(string text, [NotNullWhen(true)] out Uri? address, string scheme = "http") =>
        Uri.TryCreate(text, UriKind.Absolute, out address) && address.Scheme == scheme && address.PathAndQuery == "/";

    internal static bool IsLoopback(Uri address) =>
        address.Host == "localhost" || (IPAddress.TryParse(address.Host.Trim('[', ']'), out var ip) && IPAddress.IsLoopback(ip));
}
