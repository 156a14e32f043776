using Microsoft.AspNetCore.Http;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.E2b.Data;

/// <summary>
/// The way to the ports of sandboxes: the agent's port is answered by <see cref="AgentApi"/>, the others by programs in the guest. Ports
/// are public unless the sandbox has a token for them.
/// </summary>
internal sealed class Gateway(E2bOptions options, SandboxRegistry registry, AgentApi agent)
{
    private const string TrafficHeader = "e2b-traffic-access-token";

    /// <summary>Whether the request is for a sandbox that E2B's clients know. A host name for another sandbox is the name of a
    /// preview.</summary>
    public bool Serves(E2bTarget target) =>
        !target.IsByHost || target.Port == E2bTarget.AgentPort
            || registry.HasAnnotation(target.SandboxId!, E2bSandbox.PortsKey);

    /// <summary>Handles a request for a port of a sandbox.</summary>
    public async Task HandleAsync(HttpContext context, E2bTarget target)
    {
        using var scope = options.Scope(context);
        if (target.Port == E2bTarget.AgentPort)
        {
            // The answers of other ports are those of their programs.
            AllowPages(context);
            if (HttpMethods.IsOptions(context.Request.Method) && context.Request.Headers.ContainsKey("Access-Control-Request-Method"))
            {
                context.Response.StatusCode = StatusCodes.Status204NoContent;
                return;
            }
        }

        Sandbox? sandbox;
        try
        {
            sandbox = Find(target);
        }
        catch (PandoraException e)
        {
            // The server starts or stops: whether the sandbox lives is not known.
            context.Response.Headers.RetryAfter = "1";
            await E2bProblems.WriteAsync(context, StatusCodes.Status503ServiceUnavailable, e.Message);
            return;
        }

        if (sandbox is null)
        {
            await FailAsync(context, new GatewayError(target.SandboxId!, "The sandbox was not found", 502));
            return;
        }

        if (target.Port == E2bTarget.AgentPort)
        {
            await agent.HandleAsync(context, target, sandbox);
            return;
        }

        if (target.Port == 0)
        {
            await E2bProblems.WriteAsync(context, 400, "E2b-Sandbox-Port: must be a port from 1 to 65535");
            return;
        }

        if (Refusal(sandbox, context.Request.Headers[TrafficHeader].ToString()) is { } refusal)
        {
            await E2bProblems.WriteAsync(context, 403, refusal);
            return;
        }

        options.Serve(context);
        context.Request.Headers.Remove(TrafficHeader);
        context.Request.Headers.Remove("E2b-Sandbox-Id");
        context.Request.Headers.Remove("E2b-Sandbox-Port");
        var host = sandbox.Annotations.GetValueOrDefault(E2bSandbox.MaskKey)?.Replace(
            "${PORT}", $"{target.Port}", StringComparison.Ordinal);
        var prefix = target.IsByPath ? E2bTarget.Prefix : "";
        await options.ForwardAsync(context, new PortForward(sandbox.Id, target.Port, prefix, host, async failed =>
        {
            var error = sandbox.End is not null
                ? new GatewayError(target.SandboxId!, "The sandbox was not found", 502)
                : new GatewayError(target.SandboxId!, "The sandbox is running but port is not open", 502) { Port = target.Port };
            await FailAsync(failed, error);
        }));
    }

    // Only what was given a token through this front end: all others are not known to it.
    private Sandbox? Find(E2bTarget target)
    {
        try
        {
            var sandbox = new ProjectSandboxes(registry).Get(target.SandboxId!);
            return sandbox.End is null && sandbox.Annotations.ContainsKey(E2bSandbox.TokenKey) ? sandbox : null;
        }
        catch (PandoraException e) when (e.Error is PandoraError.SandboxNotFound or PandoraError.SandboxGone)
        {
            return null;
        }
    }

    private static string? Refusal(Sandbox sandbox, string shown)
    {
        if (!sandbox.Annotations.ContainsKey(E2bSandbox.PortsKey))
        {
            return "this sandbox was not made through E2B's API: its ports are reached as Pandora's previews";
        }

        if (E2bSandbox.TrafficTokenOf(sandbox) is not { } wanted)
        {
            return null;
        }

        if (shown.Length == 0)
        {
            return $"Sandbox is secured with traffic access token. Token header '{TrafficHeader}' is missing";
        }

        return E2bSandbox.IsToken(shown, wanted)
            ? null
            : $"Sandbox is secured with traffic access token. Provided token in header '{TrafficHeader}' is invalid";
    }

    // Pages of any site may use the SDK: the token is the credential, and no browser adds it by itself.
    private static void AllowPages(HttpContext context)
    {
        if (context.Request.Headers.Origin.Count > 0)
        {
            var headers = context.Response.Headers;
            headers.AccessControlAllowOrigin = "*";
            headers.AccessControlAllowMethods = "*";
            headers.AccessControlAllowHeaders = "*, Authorization";
            headers.AccessControlExposeHeaders = "*";
        }
    }

    private static async Task FailAsync(HttpContext context, GatewayError error)
    {
        context.Response.StatusCode = error.Code;
        await context.Response.WriteAsJsonAsync(error, E2bJson.Default.GatewayError, "application/json", context.RequestAborted);
    }
}
