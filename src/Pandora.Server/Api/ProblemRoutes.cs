using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>The problems in the API's description.</summary>
internal static class ProblemRoutes
{
    /// <summary>Says in the API's description which statuses have a problem for an answer.</summary>
    public static T Fails<T>(this T routes, params int[] statuses)
        where T : IEndpointConventionBuilder
    {
        foreach (var status in statuses)
        {
            routes.WithMetadata(new ProducesResponseTypeMetadata(status, typeof(ApiProblem), ["application/problem+json"]));
        }

        return routes;
    }
}
