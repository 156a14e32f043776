using Microsoft.AspNetCore.Http.HttpResults;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Server.Api;
using Pandora.Server.Auth;

namespace Pandora.Server.Gateway;

/// <summary>The route that makes links to previews.</summary>
internal static class PreviewLinksApi
{
    /// <summary>Maps <c>POST /sandboxes/{id}/ports/{port}/links</c>.</summary>
    public static void MapPreviewLinks(this IEndpointRouteBuilder routes)
    {
        var group = routes.MapGroup("/sandboxes/{id}/ports").WithTags("Ports");
        group.MapPost("{port}/links", Create).WithSummary("Make a link to a preview")
            .WithDescription("Everybody who has the link can use the port, without a key, until it expires. A browser that opens it keeps "
                + "a cookie for the preview's host. A link also ends with the sandbox, and with the key that made it.")
            .Fails(ApiOperations.Port);
    }

    private static Created<PortLink> Create(
        string id, int port, PortLinkRequest? request, ProjectSandboxes sandboxes, PreviewLinkMaker maker, Caller caller,
        HttpResponse response)
    {
        var link = maker.Make(
            sandboxes.GetFor(id, AuditOperation.PortLink), port, request?.ExpiresIn ?? Limits.DefaultLinkSeconds, caller);
        response.Headers.CacheControl = "no-store";
        return TypedResults.Created((string?)null, link);
    }
}
