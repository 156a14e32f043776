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
            Serve = static context => context.Features.Get<IAdmission>()?.Serve(),
            ForwardAsync = static (context, forward) =>
                context.RequestServices.GetRequiredService<E2bForwarder>().ForwardAsync(context, forward),
        };
    }

    private async Task ForwardAsync(HttpContext context, PortForward forward)
    {
        var request = context.Request;
        // A key of this server is not for the guest.
        PreviewCredentials.RemoveFrom(request.Headers, context.RequestServices.GetRequiredService<Access>());
        request.Headers["X-Forwarded-Host"] = request.Headers.Host;
        request.Headers["X-Forwarded-Proto"] = request.Scheme;
        if (forward.Host is { } host)
        {
            request.Headers.Host = host;
        }

        // The name is one of a domain: what a program says about it holds for no other sandbox.
        var target = new PreviewHost(forward.Port, forward.SandboxId, IsOfDomain: true, UrlPort: "");
        var error = await forwarder.SendAsync(
            context, target, new PreviewTransformer(target, forward.Path + request.QueryString.ToUriComponent(), cookie: null));
        if (error is not (null or ForwarderError.None or ForwarderError.UpgradeActivityTimeout)
            && !context.Response.HasStarted && !context.RequestAborted.IsCancellationRequested)
        {
            context.Response.Clear();
            await forward.FailAsync(context);
        }
    }
}
