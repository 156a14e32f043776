using Microsoft.Net.Http.Headers;

namespace Pandora.Server.Api;

/// <summary>
/// Lets a problem be the answer to a request that accepts another type, such as a stream of events. The framework writes plain JSON to such
/// a client.
/// </summary>
internal static class AcceptedProblems
{
    /// <summary>Adds the type of problems to those that the client accepts. Must come before what may refuse a request.</summary>
    public static void UseAcceptedProblems(this IApplicationBuilder app) => app.Use((context, next) =>
    {
        if (context.Request.Headers.ContainsKey(HeaderNames.Accept))
        {
            context.Request.Headers.Append(HeaderNames.Accept, "application/problem+json");
        }

        return next(context);
    });
}
