using Microsoft.AspNetCore.Hosting.Server;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Pandora.Server.Hosting;

namespace Pandora.Server.Gateway;

/// <summary>
/// The addresses at which browsers see ports of sandboxes: <c>http://{port}-{id}.localhost:{listen port}/</c>, or
/// <c>https://{port}-{id}.DOMAIN/</c> where <see cref="ServerOptions.PreviewDomain"/> is set.
/// </summary>
/// <param name="options">The settings.</param>
/// <param name="server">The web server. Where the settings leave it a free port, it knows which it has.</param>
internal sealed class PreviewAddresses(ServerOptions options, IServer server)
{
    private readonly Lazy<string> _rest = new(() => RestOf(options, server));

    /// <summary>The address of a port of a sandbox, which ends with a slash.</summary>
    /// <param name="id">The sandbox's id.</param>
    /// <param name="port">The port: 1 to 65,535.</param>
    public string Of(string id, int port) => $"{Scheme}://{port}-{id}.{_rest.Value}/";

    private string Scheme =>
        options.PreviewDomain.Length > 0 || options.TlsCertificate.Length > 0 ? Uri.UriSchemeHttps : Uri.UriSchemeHttp;

    private static string RestOf(ServerOptions options, IServer server)
    {
        if (options.PreviewDomain.Length > 0)
        {
            return options.PreviewDomain;
        }

        // The first is the API's. A server in memory has none.
        var listen = server.Features.Get<IServerAddressesFeature>()?.Addresses.FirstOrDefault() ?? options.Listen;
        var port = BindingAddress.Parse(listen).Port;
        return port == (options.TlsCertificate.Length > 0 ? 443 : 80) ? "localhost" : $"localhost:{port}";
    }
}
