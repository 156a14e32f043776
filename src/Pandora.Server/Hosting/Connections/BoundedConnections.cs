using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Server.Kestrel.Core;
using Microsoft.Extensions.DependencyInjection.Extensions;

namespace Pandora.Server.Hosting.Connections;

/// <summary>Puts bounds on connections before anything is known of who opens them.</summary>
internal static class BoundedConnections
{
    /// <summary>Has the web server listen through <see cref="BoundedListener"/>.</summary>
    public static IServiceCollection AddBoundedConnections(this IServiceCollection services, ConnectionLimits limits)
    {
        services.AddSingleton(limits).AddSingleton<ConnectionTable>();
        services.RemoveAll<IConnectionListenerFactory>();
        services.AddSingleton<IConnectionListenerFactory, BoundedListenerFactory>();
        // Of each request on an admitted connection too, where the table no longer looks.
        services.Configure<KestrelServerOptions>(o => o.Limits.RequestHeadersTimeout = limits.Headers);
        return services;
    }

    /// <summary>Tells each request's connection of it, before anything may refuse the request.</summary>
    public static void UseAdmission(this WebApplication app) => app.Use((context, next) =>
        context.Features.Get<IAdmission>() is { IsAdmitted: false } admission ? AskAsync(admission, next, context) : next(context));

    private static async Task AskAsync(IAdmission admission, RequestDelegate next, HttpContext context)
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
