using Microsoft.AspNetCore.Http.Features;
using Microsoft.AspNetCore.Server.Kestrel.Core.Features;
using Yarp.ReverseProxy.Forwarder;

namespace Pandora.Server.Gateway;

/// <summary>Forwards requests over connections to programs in guests.</summary>
internal sealed class GuestForwarder(IHttpForwarder forwarder, PreviewConnections connections)
{
    /// <summary>Time after which a request ends over which no bytes move.</summary>
    public static readonly TimeSpan ActivityTimeout = TimeSpan.FromMinutes(10);

    private static readonly ForwarderRequestConfig Http1 = ConfigOf(System.Net.HttpVersion.Version11);
    private static readonly ForwarderRequestConfig Http2 = ConfigOf(System.Net.HttpVersion.Version20);

    /// <summary>Forwards a request, and answers it with what the program answers.</summary>
    /// <param name="context">The request.</param>
    /// <param name="host">The port.</param>
    /// <param name="transformer">Changes what passes.</param>
    /// <returns>Why there is no answer, or no whole one; null when its trailers were invalid, and the answer was cut.</returns>
    public async Task<ForwarderError?> SendAsync(HttpContext context, PreviewHost host, HttpTransformer transformer)
    {
        Unbound(context.Features);
        var isGrpc = HttpProtocol.IsHttp2(context.Request.Protocol)
            && context.Request.ContentType?.StartsWith("application/grpc", StringComparison.OrdinalIgnoreCase) == true;
        try
        {
            return await forwarder.SendAsync(
                context, PreviewConnections.PrefixOf(host), connections.Client, isGrpc ? Http2 : Http1, transformer);
        }
        catch (FormatException)
        {
            context.Abort();
            return null;
        }
    }

    // For uploads of any length, and answers that wait for events. While the request runs, its connection has no time limit. One that no
    // key admitted is closed when others need the room.
    private static void Unbound(IFeatureCollection features)
    {
        if (features.Get<IHttpMaxRequestBodySizeFeature>() is { IsReadOnly: false } size)
        {
            size.MaxRequestBodySize = null;
        }

        if (features.Get<IHttpMinRequestBodyDataRateFeature>() is { } upload)
        {
            upload.MinDataRate = null;
        }

        if (features.Get<IHttpMinResponseDataRateFeature>() is { } download)
        {
            download.MinDataRate = null;
        }
    }

    private static ForwarderRequestConfig ConfigOf(Version version) => new()
    {
        ActivityTimeout = ActivityTimeout,
        Version = version,
        VersionPolicy = HttpVersionPolicy.RequestVersionExact,
    };
}
