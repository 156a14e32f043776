using Pandora.E2b;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Server.Gateway;

/// <summary>The gateway's part in the E2B front end: forwards requests of E2B's clients to ports of their sandboxes.</summary>
internal sealed class E2bForwarder(GuestForwarder forwarder)
{
    /// <summary>What the front end needs from this server.</summary>
    /// <param name="options">The settings.</param>
    public static E2bOptions OptionsOf(ServerOptions options)
    {
        var domain = PreviewDomain.Of(options);
        var shown = domain.Length > 0 ? options.PreviewDomain : $"localhost:{new Uri(options.Listen).Port}";
        return new E2bOptions(domain.Length > 0 ? domain : "localhost", shown)
        {
            Admit = static (context, ended) => context.Features.Get<IAdmission>()?.Admit(ended),
            Scope = static context => context.RequestServices.GetRequiredService<ILogger<E2bForwarder>>().BeginScope(
                new ClientScope(context.Connection.RemoteIpAddress, context.RequestServices.GetRequiredService<Caller>())),
            Serve = static context => context.Features.Get<IAdmission>()?.Serve(),
            ForwardAsync = static (context, forward) =>
                context.RequestServices.GetRequiredService<E2bForwarder>().ForwardAsync(context, forward),
        };
    }

    private async Task ForwardAsync(HttpContext context, PortForward forward)
    {
        var request = context.Request;
        if (HttpMethods.IsConnect(request.Method) || !PreviewTarget.IsValid(context))
        {
            context.Response.StatusCode = StatusCodes.Status400BadRequest;
            return;
        }

        // The name is one of a domain: what a program says about it holds for no other sandbox.
        var target = new PreviewHost(forward.Port, forward.SandboxId, IsOfDomain: true, UrlPort: "");
        // As the client wrote it: decoded, it could have the end of a line in it.
        var path = PreviewTarget.PathOf(context);
        path = path.StartsWith(forward.Prefix, StringComparison.Ordinal) ? path[forward.Prefix.Length..] : path;
        // A key or a link of this server is not for the guest.
        var access = context.RequestServices.GetRequiredService<Access>();
        var query = PreviewCredentials.Of(request, target, access).Query;
        PreviewCredentials.RemoveFrom(request.Headers, access);
        request.Headers["X-Forwarded-Host"] = request.Headers.Host;
        request.Headers["X-Forwarded-Proto"] = request.Scheme;
        if (forward.Host is { } host)
        {
            request.Headers.Host = host;
        }

        var error = await forwarder.SendAsync(
            context, target, new PreviewTransformer(target, (path.Length == 0 ? "/" : path) + query, cookie: null));
        if (error is not (null or ForwarderError.None or ForwarderError.UpgradeActivityTimeout)
            && !context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            context.Response.Clear();
            await forward.FailAsync(context);
        }
    }
}
