using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Auth;
using Pandora.Server.Hosting;
using Pandora.Server.Hosting.Connections;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Server.Gateway;

/// <summary>
/// Forwards a request whose host is a preview to the program that listens in the guest. No such request ever reaches the API:
/// <list type="number">
/// <item>Read the host. What is no preview's goes on to the API, or is refused.</item>
/// <item>Find what the request passes by: a public port, a key, a link, its cookie, or a server that needs no key. What it began is cut
/// when that ends.</item>
/// <item>Refuse what a page of another site makes a browser send, where the browser or the network is the credential.</item>
/// <item>Turn the token in a viewer's address into a cookie, by a redirect; remove Pandora's credentials from every request.</item>
/// <item>Find the sandbox.</item>
/// <item>Forward the request over a connection to the port.</item>
/// <item>If the program did not answer, say why.</item>
/// </list>
/// </summary>
internal sealed class PreviewForwarder(
    RequestDelegate next, PreviewServices services, GuestForwarder forwarder, ServerMetrics metrics, TimeProvider time,
    ILogger<PreviewForwarder> logger)
{
    /// <summary>Handles a request, and fills in its caller.</summary>
    public async Task InvokeAsync(HttpContext context, Caller caller)
    {
        // 1: the host.
        var kind = PreviewHost.Parse(context.Request.Headers.Host.ToString(), services.Domain, out var host);
        if (kind == HostKind.Other)
        {
            await next(context);
            return;
        }

        if ((host is null ? NoPreview() : Unforwardable(context)) is { } refusal)
        {
            await PreviewPages.WriteAsync(context, refusal, host);
            return;
        }

        var result = await ForwardAsync(context, caller, host!);
        metrics.PreviewAnswered(result);
    }

    private async Task<PreviewResult> ForwardAsync(HttpContext context, Caller caller, PreviewHost host)
    {
        // 2: what it passes by.
        var request = context.Request;
        var shown = PreviewCredentials.Of(request, host, services.Access);
        var (entry, refusal) = services.Decisions.Decide(host, shown, context.Connection.RemoteIpAddress);
        if (entry is null)
        {
            return await RefuseAsync(context, refusal!, host);
        }

        if (entry.Key is not null)
        {
            caller.Is(entry.Key);
        }

        using var cut = entry.Ended.UnsafeRegister(static c => ((HttpContext)c!).Abort(), context);
        using var expiry = ExpiryOf(entry, context);
        using var scope = logger.BeginScope(new ClientScope(context.Connection.RemoteIpAddress, caller));

        // 3: pages of other sites.
        if (entry.Way is PreviewWay.Cookie or PreviewWay.Open && IsForeign(request, host))
        {
            return await RefuseAsync(context, Foreign(request), host);
        }

        var admission = context.Features.Get<IAdmission>();
        if (entry.Way is PreviewWay.Key or PreviewWay.Open)
        {
            admission?.Admit(entry.Ended);
        }
        else
        {
            // Any number of viewers may have a link or know a public port.
            admission?.Serve();
        }

        // 4: the token and Pandora's credentials.
        var target = PreviewTarget.PathOf(context) + shown.Query;
        var cookie = entry.Link is { } link ? PreviewCookie.Of(link, host, services.Links.Now) : null;
        if (shown.LinkTokens.Count > 0 && IsVisit(request))
        {
            Redirect(context.Response, PreviewTarget.LocationOf(target), cookie);
            return PreviewResult.Ok;
        }

        PreviewCredentials.RemoveFrom(request.Headers, services.Access);
        request.Headers["X-Forwarded-Host"] = request.Headers.Host;
        request.Headers["X-Forwarded-Proto"] = request.IsHttps ? Uri.UriSchemeHttps : host.Scheme;

        // 5: the sandbox.
        var sandboxes = services.Decisions.SandboxesOf(entry);
        try
        {
            _ = sandboxes.Get(host.Id);
        }
        catch (PandoraException e)
        {
            return await RefuseAsync(context, PreviewFailure.Of(host, sandboxes, e), host);
        }

        // 6: the program.
        if (await forwarder.SendAsync(context, host, new PreviewTransformer(host, target, cookie)) is not { } error)
        {
            // All before the trailers, which are invalid, has been sent.
            return PreviewResult.BadAnswer;
        }

        // 7: no answer.
        return error is ForwarderError.None or ForwarderError.UpgradeActivityTimeout
            ? PreviewResult.Ok
            : await FailAsync(context, host, sandboxes, error);
    }

    private static async Task<PreviewResult> FailAsync(
        HttpContext context, PreviewHost host, ProjectSandboxes sandboxes, ForwarderError error)
    {
        var exception = context.Features.Get<IForwarderErrorFeature>()?.Exception;
        if (PreviewFailure.Of(host, sandboxes, error, exception) is not { } failure)
        {
            return PreviewResult.Cancelled;
        }

        // An answer that has begun breaks off: the forwarder did that.
        return context.Response.HasStarted || context.RequestAborted.IsCancellationRequested
            ? PreviewResults.Of(failure.Code)
            : await RefuseAsync(context, failure, host);
    }

    private static async Task<PreviewResult> RefuseAsync(HttpContext context, Refusal refusal, PreviewHost? host)
    {
        await PreviewPages.WriteAsync(context, refusal, host);
        return PreviewResults.Of(refusal.Code);
    }

    private static Refusal NoPreview() => new(
        ErrorCodes.HostNotAllowed, "the Host header looks like the name of a preview and is none: "
            + "a preview's name is PORT-ID, a port from 1 to 65535 and a sandbox's id");

    private static Refusal? Unforwardable(HttpContext context)
    {
        if (HttpMethods.IsConnect(context.Request.Method))
        {
            return new(ErrorCodes.MethodNotAllowed, "a preview is not a proxy: CONNECT is not forwarded");
        }

        return PreviewTarget.IsValid(context)
            ? null
            : new(ErrorCodes.InvalidRequest, "the target of the request has a space or a control character");
    }

    private static Refusal Foreign(HttpRequest request)
    {
        var origin = request.Headers.Origin.ToString();
        return new Refusal(
            ErrorCodes.ForbiddenOrigin, $"a web page of {(origin is "" or "null" ? "another site" : origin)} may not use this preview");
    }

    // A browser says 'null' for the origin of a form whose own page hides it, too.
    private bool IsForeign(HttpRequest request, PreviewHost host) => request.Headers.Origin.ToString() switch
    {
        "" => FetchMetadata.IsFromOtherPage(request),
        "null" => !FetchMetadata.IsFromOwnPage(request),
        var origin => !host.IsSameGuest(origin, services.Domain),
    };

    private static bool IsVisit(HttpRequest request) =>
        (HttpMethods.IsGet(request.Method) || HttpMethods.IsHead(request.Method)) && PreviewPages.AcceptsPage(request);

    private static void Redirect(HttpResponse response, string location, string? cookie)
    {
        response.StatusCode = StatusCodes.Status303SeeOther;
        response.Headers.Location = location;
        response.Headers.CacheControl = "no-store";
        // The address that is left has the token.
        response.Headers["Referrer-Policy"] = "no-referrer";
        if (cookie is not null)
        {
            response.Headers.SetCookie = cookie;
        }
    }

    private ITimer? ExpiryOf(PreviewEntry entry, HttpContext context)
    {
        if (entry.Expires is not { } expires)
        {
            return null;
        }

        var rest = expires - services.Links.Now;
        return time.CreateTimer(
            static c => ((HttpContext)c!).Abort(), context, rest > TimeSpan.Zero ? rest : TimeSpan.Zero, Timeout.InfiniteTimeSpan);
    }
}
