using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Pandora.Server.Hosting.Connections;

/// <summary>Bounds connections before anything is known about the clients that open them.</summary>
internal static class BoundedConnections
{
    // Two paths of 4,095 bytes, each byte encoded as %XX, do not come in one address; one does.
    private const int MaxRequestLine = 16 * 1024;

    /// <summary>Makes the web server listen through <see cref="BoundedListener"/>.</summary>
    public static IServiceCollection AddBoundedConnections(this IServiceCollection services, ConnectionLimits limits)
    {
        services.AddSingleton(limits).AddSingleton<ConnectionTable>();
        services.RemoveAll<IConnectionListenerFactory>();
        services.AddSingleton<IConnectionListenerFactory, BoundedListenerFactory>();
        // The table checks no connection that is admitted or served; there the web server enforces this limit for each request.
        services.Configure<KestrelServerOptions>(o =>
        {
            o.Limits.RequestHeadersTimeout = limits.Headers;
            o.Limits.MaxRequestLineSize = MaxRequestLine;
        });
        return services;
    }

    /// <summary>Reports each request to its connection. Must come before any middleware that may refuse the request.</summary>
    public static void UseAdmission(this WebApplication app) => app.Use((context, next) =>
        context.Features.Get<IAdmission>() is { } admission ? ReportAsync(admission, next, context) : next(context));

    private static async Task ReportAsync(IAdmission admission, RequestDelegate next, HttpContext context)
    {
        admission.Begin();
        try
        {
            await next(context);
        }
        finally
        {
            admission.End();
        }
    }
}
