using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Pandora.E2b.Control;
using Pandora.E2b.Data;
using Pandora.E2b.Files;
using Pandora.E2b.Processes;

namespace Pandora.E2b;

/// <summary>Adds the E2B front end to the server: E2B's SDKs and tools use sandboxes by it.</summary>
public static class E2bServices
{
    /// <summary>Adds the services.</summary>
    public static IServiceCollection AddE2b(this IServiceCollection services, E2bOptions options)
    {
        services.AddSingleton(options);
        services.AddSingleton<GuestUsers>().AddSingleton<ProcessCalls>().AddSingleton<FileWatchers>().AddSingleton<FileCalls>();
        services.AddSingleton<AgentApi>().AddSingleton<Gateway>();
        services.AddSingleton<IProblemDetailsWriter, E2bProblems>();
        return services;
    }

    /// <summary>
    /// Answers requests for ports of sandboxes, and leads those for the control API to its routes. It must come before what serves or
    /// refuses requests by their host name, and before routing.
    /// </summary>
    public static void UseE2b(this IApplicationBuilder app) => app.Use(static async (context, next) =>
    {
        var services = context.RequestServices;
        var target = E2bTarget.Of(context.Request, services.GetRequiredService<E2bOptions>().Domain);
        if (target is { SandboxId: not null } && services.GetRequiredService<Gateway>() is var gateway && gateway.Serves(target))
        {
            await gateway.HandleAsync(context, target);
            return;
        }

        if (target is { SandboxId: null })
        {
            context.Request.Path = E2bTarget.Prefix + target.Path;
        }

        await next(context);
    });

    /// <summary>Adds the routes of the control API.</summary>
    public static void MapE2b(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup(E2bTarget.Prefix).ExcludeFromDescription();
        group.MapSandboxes();
        group.MapUsage();
        group.MapOther();
    }
}
