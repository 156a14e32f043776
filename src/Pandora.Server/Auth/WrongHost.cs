using Microsoft.AspNetCore.HostFiltering;
using Microsoft.Extensions.Options;
using Pandora.Contracts;
using Pandora.Server.Api;

namespace Pandora.Server.Auth;

/// <summary>Tells a client with a Host header that is not allowed which are, as a problem like all others.</summary>
internal static class WrongHost
{
    private static readonly object Passed = new();

    /// <summary>Filters by the Host header: the framework's middleware decides, and this answers.</summary>
    public static void UseAllowedHosts(this IApplicationBuilder app)
    {
        app.Use(async (context, next) =>
        {
            await next(context);
            if (context.Response is { HasStarted: false, StatusCode: StatusCodes.Status400BadRequest }
                && !context.Items.ContainsKey(Passed))
            {
                var hosts = context.RequestServices.GetRequiredService<IOptions<HostFilteringOptions>>().Value.AllowedHosts;
                await Problems.Create(
                    ErrorCodes.HostNotAllowed,
                    $"this server does not go by the host name of the request; it goes by {string.Join(", ", hosts.Distinct())}",
                    hint: "PANDORA_ALLOWED_HOSTS lists further host names").ExecuteAsync(context);
            }
        });
        app.UseHostFiltering();
        app.Use((context, next) =>
        {
            context.Items[Passed] = true;
            return next(context);
        });
    }
}
