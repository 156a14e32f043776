using System.Reflection;
using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine;

namespace Pandora.Server.Api;

/// <summary><c>/health</c> for people and clients, <c>/ready</c> for scripts and balancers.</summary>
internal static class HealthApi
{
    public static readonly string Version = typeof(HealthApi).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;

    public static void MapHealth(this IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health", GetHealth).WithTags("Service").WithSummary("Show the service's state");
        routes.MapGet("/ready", GetReady).WithTags("Service").WithSummary("200 when a sandbox can be claimed without waiting, else 503").ProducesProblem(503);
    }

    private static Ok<Health> GetHealth(PandoraEngine engine, EngineOptions options) => TypedResults.Ok(new Health(
        "ok", Version, engine.PoolSize, engine.WarmCount, engine.Sandboxes.Count, options.MaxSandboxes, engine.Instance.Id,
        $"{engine.Vmm.Capabilities.Name} {engine.Vmm.Capabilities.Version}, {engine.Vmm.Capabilities.Accelerator}: {engine.Vmm.Capabilities.AcceleratorReason}",
        engine.Vmm.Capabilities.Isolation, engine.Notes));

    private static IResult GetReady(PandoraEngine engine) => engine.IsReady
        ? TypedResults.Ok()
        : Problems.Create(503, ProblemCodes.PoolEmpty, "no microVM is warm yet; a claim would wait for one");
}
