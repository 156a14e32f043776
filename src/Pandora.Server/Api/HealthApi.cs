using System.Reflection;
using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine.Node;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api;

/// <summary><c>/health</c> for people and clients, <c>/ready</c> for scripts and balancers.</summary>
internal static class HealthApi
{
    public static readonly string Version = typeof(HealthApi)
        .Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!
        .InformationalVersion;

    public static void MapHealth(this IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health", GetHealth).WithTags("Service").WithSummary("Show the service's state").Fails(ApiOperations.Health);
        routes.MapGet("/ready", GetReady).WithTags("Service").WithSummary("200 when a sandbox can be claimed without waiting, else 503")
            .Produces(200).Fails(ApiOperations.Ready);
    }

    private static Ok<Health> GetHealth(Func<NodeStatus> getStatus, SandboxRegistry sandboxes, EngineOptions options)
    {
        var status = getStatus();
        var state = status switch
        {
            { IsProtected: false } => "not_protected",
            { IsRecovering: true } => "recovering",
            _ => "ok",
        };
        return TypedResults.Ok(new Health(
            state, Version, status.PoolSize, status.WarmCount, sandboxes.Count, options.MaxSandboxes, status.Instance,
            $"{status.Vmm.Name} {status.Vmm.Version}, {status.Vmm.Accelerator}: {status.Vmm.AcceleratorReason}",
            status.Vmm.Isolation, status.Notes, options.LongestTimeout, options.LongestIdleTimeout));
    }

    private static IResult GetReady(Func<NodeStatus> getStatus)
    {
        var status = getStatus();
        if (status.IsReady)
        {
            return TypedResults.Ok();
        }

        if (!status.IsProtected)
        {
            return Problems.Create(ErrorCodes.NotProtected,
                "the rules that keep guests from the host's networks are incomplete; 'notes' of /health says what is missing");
        }

        return status.IsRecovering
            ? Problems.Create(ErrorCodes.Recovering, "the server adopts or cleans up the microVMs of the previous server")
            : Problems.Create(ErrorCodes.PoolEmpty, "no microVM is warm yet; a claim would wait for one");
    }
}
