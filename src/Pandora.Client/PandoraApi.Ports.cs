using System.Diagnostics.CodeAnalysis;
using System.Globalization;
using System.Net;
using System.Net.WebSockets;
using System.Security.Cryptography;
using System.Text;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The requests under <c>/sandboxes/{id}/ports</c>, <c>/ssh</c> and <c>/ssh-keys</c>.</summary>
internal sealed partial class PandoraApi
{
    private const string AnyType = "*/*";

    // Such frames keep the connection in the tables of what lies between. A missing answer ends no connection: a program that does not read
    // for a while answers no ping, and its connection must live on, as one of TCP does.
    private static readonly TimeSpan PortKeepAlive = TimeSpan.FromSeconds(15);

    public async Task<PortInfo[]> ListPortsAsync(string id, CancellationToken cancellationToken)
    {
        var list = await ReadAsync(
            HttpMethod.Get, $"{PathOf(id)}/ports", PandoraJson.Default.PortInfoArray, cancellationToken).ConfigureAwait(false);
        return list.Any(p => p?.Addresses is null || p.PreviewUrl is null)
            ? throw NotUnderstood("a port in it has no addresses")
            : list;
    }

    public async Task<PortAccess> SetPortAsync(string id, int port, PortRequest request, CancellationToken cancellationToken)
    {
        var access = await ReadAsync(
            HttpMethod.Put, PortPath(id, port), PandoraJson.Default.PortAccess, cancellationToken,
            () => Content(request, PandoraJson.Default.PortRequest)).ConfigureAwait(false);
        return access.PreviewUrl is null ? throw NotUnderstood("it has no address of a preview") : access;
    }

    public async Task<PortLink> CreateLinkAsync(string id, int port, PortLinkRequest request, CancellationToken cancellationToken)
    {
        var link = await ReadAsync(
            HttpMethod.Post, $"{PortPath(id, port)}/links", PandoraJson.Default.PortLink, cancellationToken,
            () => Content(request, PandoraJson.Default.PortLinkRequest)).ConfigureAwait(false);
        return string.IsNullOrEmpty(link.Url) ? throw NotUnderstood("it has no link") : link;
    }

    public async Task<SshAccess> GetSshAsync(string id, CancellationToken cancellationToken) =>
        Known(await ReadAsync(HttpMethod.Get, $"{PathOf(id)}/ssh-keys", PandoraJson.Default.SshAccess, cancellationToken)
            .ConfigureAwait(false));

    public async Task<SshAccess> SetSshKeysAsync(string id, SshKeysRequest request, CancellationToken cancellationToken) =>
        Known(await ReadAsync(
            HttpMethod.Put, $"{PathOf(id)}/ssh-keys", PandoraJson.Default.SshAccess, cancellationToken,
            () => Content(request, PandoraJson.Default.SshKeysRequest)).ConfigureAwait(false));

    /// <summary>Connects to a port in the guest.</summary>
    public Task<PortStream> ConnectPortAsync(string id, int port, CancellationToken cancellationToken) =>
        OpenStreamAsync($"{PortPath(id, port)}/connect", cancellationToken);

    /// <summary>Connects to the guest's SSH server.</summary>
    public Task<PortStream> ConnectSshAsync(string id, CancellationToken cancellationToken) =>
        OpenStreamAsync($"{PathOf(id)}/ssh", cancellationToken);

    private static string PortPath(string id, int port) => string.Create(CultureInfo.InvariantCulture, $"{PathOf(id)}/ports/{port}");

    private static SshAccess Known(SshAccess access) =>
        access.Keys is null || access.HostKey is null ? throw NotUnderstood("it has no keys") : access;

    [SuppressMessage("Reliability", "CA2000", Justification = "The stream disposes the WebSocket, and that the connection")]
    private PortStream StreamOn(Stream connection) => new(
        WebSocket.CreateFromStream(
            connection, new WebSocketCreationOptions { SubProtocol = PortSockets.Protocol, KeepAliveInterval = PortKeepAlive }),
        Time);

    // ClientWebSocket hides the body of a refusal, which says why. So this makes the handshake (RFC 6455, section 4.1) as a request among
    // others, with the same retries and errors.
    private async Task<PortStream> OpenStreamAsync(string path, CancellationToken cancellationToken)
    {
        var address = new UriBuilder(new Uri(_base, path));
        address.Scheme = address.Scheme == Uri.UriSchemeHttps ? Uri.UriSchemeWss : Uri.UriSchemeWs;
        var key = Convert.ToBase64String(RandomNumberGenerator.GetBytes(16));
        var response = await SendAsync(
            HttpMethod.Get, address.Uri.AbsoluteUri, null, cancellationToken, AnyType, request =>
            {
                (request.Version, request.VersionPolicy) = (HttpVersion.Version11, HttpVersionPolicy.RequestVersionExact);
                request.Headers.Connection.Add("Upgrade");
                request.Headers.Upgrade.Add(new("websocket"));
                request.Headers.Add("Sec-WebSocket-Version", "13");
                request.Headers.Add("Sec-WebSocket-Key", key);
                request.Headers.Add("Sec-WebSocket-Protocol", PortSockets.Protocol);
            }).ConfigureAwait(false);
        try
        {
            if (response.StatusCode != HttpStatusCode.SwitchingProtocols
                || HeaderOf(response, "Sec-WebSocket-Accept") != AcceptFor(key)
                || HeaderOf(response, "Sec-WebSocket-Protocol") != PortSockets.Protocol)
            {
                throw NotUnderstood($"it is no WebSocket of the subprotocol {PortSockets.Protocol}");
            }

            return StreamOn(await response.Content.ReadAsStreamAsync(cancellationToken).ConfigureAwait(false));
        }
        catch
        {
            response.Dispose();
            throw;
        }
    }

    private static string? HeaderOf(HttpResponseMessage response, string name) =>
        response.Headers.TryGetValues(name, out var values) ? string.Join(',', values) : null;

    [SuppressMessage("Security", "CA5350", Justification = "RFC 6455 prescribes it; it protects nothing")]
    private static string AcceptFor(string key) =>
        Convert.ToBase64String(SHA1.HashData(Encoding.ASCII.GetBytes($"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11")));
}
