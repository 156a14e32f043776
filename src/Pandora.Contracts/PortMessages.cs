using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>A port of a sandbox, as <c>GET /sandboxes/{id}/ports</c> shows it: one on which a program listens (TCP), or which is
/// public.</summary>
/// <param name="Port">The port: 1 to 65,535.</param>
/// <param name="Addresses">The addresses of the guest on which programs listen, such as <c>127.0.0.1</c>; <c>0.0.0.0</c> and <c>::</c> are
/// all addresses. Empty when none listens.</param>
/// <param name="Public">Whether previews of the port need neither key nor link.</param>
/// <param name="PreviewUrl">Address of the port for browsers. Unless the port is public, or the server needs no key, a link is needed:
/// <c>POST /sandboxes/{id}/ports/{port}/links</c>.</param>
/// <param name="Pid">Pid of a program that listens; left out when it is not known.</param>
/// <param name="Program">Name of that program, as the guest's kernel has it; left out when it is not known.</param>
public sealed record PortInfo(
    int Port, IReadOnlyList<string> Addresses, bool Public, string PreviewUrl,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? Pid = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Program = null);

/// <summary>Body of <c>PUT /sandboxes/{id}/ports/{port}</c>.</summary>
/// <param name="Public">True lets everybody who can reach the server see previews of this port, without a key.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record PortRequest([property: Required(ErrorMessage = "must be given")] bool? Public);

/// <summary>Answer to <c>PUT /sandboxes/{id}/ports/{port}</c>.</summary>
/// <param name="Port">The port.</param>
/// <param name="Public">Whether previews of the port need neither key nor link.</param>
/// <param name="PreviewUrl">Address of the port for browsers.</param>
public sealed record PortAccess(int Port, bool Public, string PreviewUrl);

/// <summary>Body of <c>POST /sandboxes/{id}/ports/{port}/links</c>. It may be left out.</summary>
/// <param name="ExpiresIn">Seconds for which the link opens the preview: 1 to 604,800, which is 7 days. Default: 3,600.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record PortLinkRequest(
    [property: Range(Limits.MinLinkSeconds, Limits.MaxLinkSeconds, ErrorMessage = "must be between {1} and {2} seconds")]
    double? ExpiresIn = null);

/// <summary>Answer to <c>POST /sandboxes/{id}/ports/{port}/links</c>.</summary>
/// <param name="Url">Address that opens the preview without a key. Everybody who has it can use the port until it expires.</param>
/// <param name="ExpiresAt">When it expires. It also ends with the sandbox, and with the key that made it.</param>
public sealed record PortLink(string Url, DateTimeOffset ExpiresAt);

/// <summary>Body of <c>PUT /sandboxes/{id}/ssh-keys</c>.</summary>
/// <param name="Keys">The public keys that may log in from now on, as lines of <c>authorized_keys</c> without options, such as
/// <c>ssh-ed25519 AAAA… name</c>: at most 64, 16 KiB in all. They take the place of those before; connections that are open live
/// on.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record SshKeysRequest([property: Required(ErrorMessage = "must be given")] IReadOnlyList<string> Keys);

/// <summary>Who may log in to a sandbox by SSH, and how its SSH server is known.</summary>
/// <param name="Keys">The public keys that may log in.</param>
/// <param name="HostKey">The public host key, <c>ssh-ed25519 AAAA…</c>, to be pinned in <c>known_hosts</c>.</param>
public sealed record SshAccess(IReadOnlyList<string> Keys, string HostKey);

/// <summary>The WebSockets of <c>/sandboxes/{id}/ports/{port}/connect</c> and <c>/sandboxes/{id}/ssh</c>. Binary messages are the
/// connection's bytes; text messages are refused.</summary>
public static class PortSockets
{
    /// <summary>
    /// Subprotocol of clients that know an end of one direction: an empty binary message says that its sender sends no more bytes. Without
    /// the subprotocol, the end of either direction closes the WebSocket.
    /// </summary>
    public const string Protocol = "pandora.port.v1";
}
