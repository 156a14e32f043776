using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Engine.Templates;

namespace Pandora.E2b.Control;

/// <summary>The health, the templates, and the routes whose work this server cannot do yet: they say so.</summary>
internal static class OtherApi
{
    private const string Pause = "this server cannot pause, resume, fork or snapshot sandboxes yet";
    private const string Build = "this server builds no templates from E2B's clients yet: './pandora template build' builds them";

    public static void MapOther(this IEndpointRouteBuilder routes)
    {
        routes.MapGet("/health", () => TypedResults.NoContent());
        routes.MapGet("/templates", ListTemplates);
        routes.MapGet("/v2/templates", ListTemplates);
        routes.MapGet("/templates/aliases/{name}", (string name, EngineOptions options) =>
            new TemplateStore(options.TemplatePath).Find(TemplateNames.Of(name)) is { } template
                ? ControlRequest.Json(
                    new TemplateAlias(template.Name, IsPublic: false), E2bJson.Default.TemplateAlias)
                : throw new PandoraException(PandoraError.SandboxNotFound, $"there is no template '{name}'"));
        foreach (var path in new[] { "pause", "resume", "fork", "snapshots" })
        {
            routes.MapPost($"/sandboxes/{{id}}/{path}", (string id, HttpContext c, ProjectSandboxes sandboxes) =>
            {
                _ = sandboxes.Get(id);
                return RefuseAsync(c, Pause);
            });
        }

        routes.MapGet("/snapshots", (HttpContext c) => RefuseAsync(c, Pause));
        foreach (var path in new[] { "/v3/templates", "/v2/templates", "/templates" })
        {
            routes.MapPost(path, (HttpContext c) => RefuseAsync(c, Build));
            routes.MapMethods($"{path}/{{**rest}}", ["POST", "PATCH", "DELETE", "PUT"], (HttpContext c) => RefuseAsync(c, Build));
        }

        foreach (var what in new[] { "volumes", "secrets" })
        {
            routes.MapMethods(
                $"/{what}/{{**rest}}", ["GET", "POST", "DELETE"], (HttpContext c) => RefuseAsync(c, $"this server has no {what} yet"));
        }
    }

    private static Task RefuseAsync(HttpContext context, string sentence) =>
        E2bProblems.WriteAsync(context, StatusCodes.Status501NotImplemented, sentence);

    private static IResult ListTemplates(EngineOptions options)
    {
        var templates = new TemplateStore(options.TemplatePath).List();
        return ControlRequest.Json([.. templates.Select(Describe)], E2bJson.Default.TemplateEntryArray);
    }

    private static TemplateEntry Describe(Template template)
    {
        string[] names = [TemplateNames.AliasOf(template.Name)];
        return new TemplateEntry(
            template.Name, template.Key, template.VcpuCount, template.MemoryMiB, template.DiskMib, Public: false, names, names,
            template.CreatedAt.ToUniversalTime(), template.CreatedAt.ToUniversalTime(), CreatedBy: null, LastSpawnedAt: null, SpawnCount: 0,
            BuildCount: 1, E2bSandbox.EnvdVersion, "ready");
    }
}
