using Microsoft.AspNetCore.HostFiltering;
using Microsoft.Extensions.Options;
using Pandora.Contracts;
using Pandora.Server.Api;

namespace Pandora.Server.Auth;

/// <summary>Answers a request whose Host header is not allowed with a problem that lists the allowed host names.</summary>
internal static class WrongHost
{
    private static readonly object Passed = new();

    /// <summary>Filters by the Host header. The framework's middleware decides, and this method writes the answer.</summary>
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
                    $"the Host header of the request is not a name of this server; its names are {string.Join(", ", hosts.Distinct())}",
                    hint: "PANDORA_ALLOWED_HOSTS lists more host names").ExecuteAsync(context);
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
