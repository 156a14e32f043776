using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>Lists each operation's problems in the API's description.</summary>
internal static class ProblemRoutes
{
    /// <summary>Adds the problems that an operation may answer with to the API's description: each status with its codes.</summary>
    public static RouteHandlerBuilder Fails(this RouteHandlerBuilder route, ApiOperations operation)
    {
        var codes = ErrorCodes.All.Where(c => c.Operations.HasFlag(operation)).OrderBy(c => c.Status).ToLookup(c => c.Status);
        foreach (var status in codes)
        {
            route.WithMetadata(new ProducesResponseTypeMetadata(status.Key, typeof(ApiProblem), ["application/problem+json"]));
        }

        return route.AddOpenApiOperationTransformer((described, _, _) =>
        {
            foreach (var status in codes)
            {
                described.Responses![$"{status.Key}"].Description = string.Join('\n', status.Select(c => $"- `{c.Code}`: {c.Meaning}"));
            }

            return Task.CompletedTask;
        });
    }
}
