using System.Reflection;
using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Admission;
using Pandora.Engine.Node;
using Pandora.Engine.Projects;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Telemetry;
using Pandora.Server.Auth;

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

    private static Ok<Health> GetHealth(
        Func<NodeStatus> getStatus, SandboxRegistry sandboxes, EngineOptions options, Access access, FindProject projects,
        Caller caller)
    {
        var status = getStatus();
        var state = status switch
        {
            { IsProtected: false } => "not_protected",
            { IsRecovering: true } => "recovering",
            _ => "ok",
        };
        return TypedResults.Ok(new Health(
            state, Version, status.PoolSize, status.WarmCount,
            caller.Role == KeyRole.Admin ? sandboxes.Count : sandboxes.UseOf(caller.Project).Sandboxes,
            options.MaxSandboxes, status.Instance,
            $"{status.Vmm.Name} {status.Vmm.Version}, {status.Vmm.Accelerator}: {status.Vmm.AcceleratorReason}",
            status.Vmm.Isolation, [.. status.Notes, .. ProblemOf(access, caller)],
            options.LongestTimeout, options.LongestIdleTimeout, caller.Role == KeyRole.Admin ? ToWire(status.Capacity) : null,
            ToWire(projects(caller.Project), sandboxes.UseOf(caller.Project)), status.Vmm.IsSecurityBoundary));
    }

    // The problem itself may name other projects and their keys.
    private static IEnumerable<string> ProblemOf(Access access, Caller caller) => access.Problem switch
    {
        null => [],
        var problem => [caller.Role == KeyRole.Admin ? problem : "the file of keys cannot be read, and what it said last stays in force"],
    };

    private static HealthCapacity ToWire(NodeCapacity capacity) => new(
        capacity.Budget.MemoryMib, capacity.Used.MemoryMib, capacity.Held.MemoryMib,
        capacity.Budget.Vcpus, capacity.Used.Vcpus, capacity.Held.Vcpus);

    private static HealthProject ToWire(Project project, ProjectUse use) => new(
        project.Name, use.Sandboxes, use.Vcpus, use.MemoryMib, project.MaxSandboxes, project.MaxVcpus, project.MaxMemoryMib,
        project.MaxLifetime, project.Egress is { } egress ? Label.Of(egress) : null, project.Templates);

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
