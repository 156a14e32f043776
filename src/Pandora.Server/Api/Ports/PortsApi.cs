using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Gateway;

namespace Pandora.Server.Api.Ports;

/// <summary>The routes under <c>/sandboxes/{id}/ports</c>, and those of the SSH server of a sandbox.</summary>
internal static class PortsApi
{
    private const string Bytes =
        $"Binary messages are the connection's bytes; text messages are refused. With the subprotocol {PortSockets.Protocol} an empty "
        + "binary message is the end of its sender's bytes, and the server closes when both sides have ended. Without it, the end of "
        + "either side closes. Bytes that move are activity of the sandbox; an open connection is none.";

    public static void MapPorts(this IEndpointRouteBuilder routes)
    {
        var ports = routes.MapGroup("/sandboxes/{id}/ports").WithTags("Ports");
        ports.MapGet("", ListAsync).WithSummary("List the ports on which programs listen")
            .WithDescription("TCP ports, by number. Those that are public are listed also when no program listens.")
            .Fails(ApiOperations.Port);
        ports.MapPut("{port}", SetAsync).WithSummary("Set whether a port is public")
            .WithDescription("Previews of a public port need neither key nor link: everybody who can reach the server sees them. "
                + "The guest is not asked.")
            .Fails(ApiOperations.Port);
        ports.MapGet("{port}/connect", ConnectAsync).WithSummary("Connect to a port by a WebSocket")
            .WithDescription("The connection is made inside the guest: to 127.0.0.1, ::1, or another of its own addresses on which a "
                + $"program listens. It is made before the answer: a port on which no program listens is answered with 502. {Bytes}")
            .Produces(101).Fails(ApiOperations.Port);
        var ssh = routes.MapGroup("/sandboxes/{id}").WithTags("SSH");
        ssh.MapGet("ssh", ConnectSshAsync).WithSummary("Connect to the SSH server by a WebSocket")
            .WithDescription($"The guest's SSH server is started for the connection, and listens nowhere. {Bytes}")
            .Produces(101).Fails(ApiOperations.Ssh);
        ssh.MapGet("ssh-keys", GetKeys).WithSummary("Show who may log in by SSH, and the host key").Fails(ApiOperations.Ssh);
        ssh.MapPut("ssh-keys", SetKeysAsync).WithSummary("Set who may log in by SSH")
            .WithDescription("The keys hold for connections that begin from now on, and for every user of the guest.")
            .Fails(ApiOperations.Ssh);
    }

    private static async Task<Ok<PortInfo[]>> ListAsync(
        string id, ProjectSandboxes sandboxes, PreviewAddresses previews, CancellationToken cancellationToken)
    {
        var ports = await sandboxes.GetFor(id, SandboxOperation.Port).ListPortsAsync(cancellationToken);
        return TypedResults.Ok(ports.Select(p => new PortInfo(
            p.Port, p.Addresses, p.IsPublic, previews.Of(id, p.Port), p.Pid, p.Program)).ToArray());
    }

    private static async Task<Ok<PortAccess>> SetAsync(
        string id, int port, PortRequest request, ProjectSandboxes sandboxes, PreviewAddresses previews,
        CancellationToken cancellationToken)
    {
        var isPublic = request.Public == true;
        await sandboxes.GetFor(id, AuditOperation.PortPublic).SetPublicAsync(port, isPublic, cancellationToken);
        return TypedResults.Ok(new PortAccess(port, isPublic, previews.Of(id, port)));
    }

    private static async Task<IResult> ConnectAsync(
        string id, int port, ProjectSandboxes sandboxes, HttpContext context, CancellationToken cancellationToken)
    {
        MustBeWebSocket(context);
        return new PortSocket(await sandboxes.GetFor(id, AuditOperation.PortConnect)
            .ConnectPortAsync(port, PortUse.Connect, cancellationToken));
    }

    private static async Task<IResult> ConnectSshAsync(
        string id, ProjectSandboxes sandboxes, HttpContext context, CancellationToken cancellationToken)
    {
        MustBeWebSocket(context);
        return new PortSocket(await sandboxes.GetFor(id, AuditOperation.Ssh).OpenSshAsync(cancellationToken));
    }

    private static Ok<SshAccess> GetKeys(string id, ProjectSandboxes sandboxes) =>
        TypedResults.Ok(ToAccess(sandboxes.GetFor(id, SandboxOperation.Ssh)));

    private static async Task<Ok<SshAccess>> SetKeysAsync(
        string id, SshKeysRequest request, ProjectSandboxes sandboxes, CancellationToken cancellationToken)
    {
        var sandbox = sandboxes.GetFor(id, AuditOperation.SshKeys);
        await sandbox.SetSshKeysAsync(request.Keys, cancellationToken);
        return TypedResults.Ok(ToAccess(sandbox));
    }

    private static SshAccess ToAccess(Sandbox sandbox) => new(sandbox.SshKeys, sandbox.SshHostKey);

    private static void MustBeWebSocket(HttpContext context)
    {
        if (!context.WebSockets.IsWebSocketRequest)
        {
            throw PandoraException.Invalid("Upgrade", "this route is a WebSocket: ask for it with 'Upgrade: websocket'");
        }
    }
}
