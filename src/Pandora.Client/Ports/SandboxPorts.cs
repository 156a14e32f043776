using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// The ports of a sandbox (TCP). What listens in the guest is reached through the server, on whichever of the guest's own addresses it
/// listens. Members are virtual, so that a test can replace them.
/// </summary>
public class SandboxPorts
{
    private readonly PandoraApi? _api;
    private readonly string _sandboxId;

    internal SandboxPorts(PandoraApi api, string sandboxId) => (_api, _sandboxId) = (api, sandboxId);

    /// <summary>For a class of a test that replaces members.</summary>
    protected SandboxPorts() => _sandboxId = "";

    private PandoraApi Api => _api ?? throw new NotSupportedException("these ports have no client: replace the member in your test");

    /// <summary>Lists the ports on which programs listen and those that are public, by number.</summary>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason, such as an agent that is older than the server (code
    /// <c>ports_unsupported</c>).</exception>
    public virtual async Task<IReadOnlyList<ListeningPort>> ListAsync(CancellationToken cancellationToken = default)
    {
        var ports = await Api.ListPortsAsync(_sandboxId, cancellationToken).ConfigureAwait(false);
        return [.. ports.Select(ListeningPort.From)];
    }

    /// <summary>Connects to what listens on a port in the guest.</summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    /// <param name="cancellationToken">Ends the wait; the connection that is returned does not depend on it.</param>
    /// <exception cref="PandoraApiException">No program listens there (code <c>port_closed</c>), the program accepts no connection (code
    /// <c>port_timeout</c>), or too many connections are open (code <c>too_many_connections</c>, after retries).</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The connection failed for another reason.</exception>
    public virtual Task<PortStream> ConnectAsync(int port, CancellationToken cancellationToken = default)
    {
        Check(port);
        return Api.ConnectPortAsync(_sandboxId, port, cancellationToken);
    }

    /// <summary>Says whether previews of a port need neither key nor link. It may be repeated, and nothing has to listen there.</summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    /// <param name="isPublic">True lets everybody who can reach the server use the port.</param>
    /// <param name="cancellationToken">Ends the request. The server may have done it.</param>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<PortPreview> SetPublicAsync(int port, bool isPublic, CancellationToken cancellationToken = default)
    {
        Check(port);
        var access = await Api.SetPortAsync(_sandboxId, port, new PortRequest(isPublic), cancellationToken).ConfigureAwait(false);
        return new() { Port = access.Port, IsPublic = access.Public, Url = access.PreviewUrl };
    }

    /// <summary>Makes a link that opens the preview of a port in a browser without a key.</summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    /// <param name="expiresIn">From <see cref="Limits.MinLinkSeconds"/> to <see cref="Limits.MaxLinkSeconds"/> seconds; null is
    /// <see cref="Limits.DefaultLinkSeconds"/> seconds.</param>
    /// <param name="cancellationToken">Ends the request.</param>
    /// <exception cref="InvalidRequestException">The time is out of its range.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<PreviewLink> CreateLinkAsync(
        int port, TimeSpan? expiresIn = null, CancellationToken cancellationToken = default)
    {
        Check(port);
        var link = await Api.CreateLinkAsync(_sandboxId, port, new PortLinkRequest(expiresIn?.TotalSeconds), cancellationToken)
            .ConfigureAwait(false);
        return new() { Url = link.Url, ExpiresAt = link.ExpiresAt };
    }

    /// <summary>
    /// Makes an HTTP client whose requests go to a port in the guest, with <see cref="HttpClient.BaseAddress"/>
    /// <c>http://{port}-{id}.localhost:{port of the API}/</c>. Each of its connections is one of <see cref="ConnectAsync"/>, so it works
    /// wherever the API does, and the program in the guest gets no key. It reaches that port and nothing else, also when an answer
    /// redirects. A port on which no program listens is an <see cref="HttpRequestException"/> whose cause says so. Dispose it.
    /// </summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    [SuppressMessage("Reliability", "CA2000", Justification = "The HTTP client disposes the handler, and the caller the HTTP client")]
    public virtual HttpClient CreateHttpClient(int port)
    {
        Check(port);
        var host = string.Create(CultureInfo.InvariantCulture, $"{port}-{_sandboxId}.localhost");
        var address = new UriBuilder(Uri.UriSchemeHttp, host, Api.Url.Port).Uri;
        return new HttpClient(new SocketsHttpHandler
        {
            // A proxy would be dialled in the port's place.
            UseProxy = false,
            ConnectCallback = async (context, cancellationToken) => context.DnsEndPoint.Host == address.IdnHost
                ? await Api.ConnectPortAsync(_sandboxId, port, cancellationToken).ConfigureAwait(false)
                : throw new HttpRequestException($"this HTTP client reaches {address.Authority} only, not {context.DnsEndPoint.Host}"),
        })
        {
            BaseAddress = address,
        };
    }

    private static void Check(int port)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(port, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(port, IPEndPoint.MaxPort);
    }
}
