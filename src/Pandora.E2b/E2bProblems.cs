using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.DependencyInjection;

namespace Pandora.E2b;

/// <summary>
/// Writes the problems of the control API in E2B's shape, whichever part of the server found them. Clients look at the number in the body,
/// and not at the status.
/// </summary>
internal sealed class E2bProblems : IProblemDetailsWriter
{
    /// <inheritdoc/>
    public bool CanWrite(ProblemDetailsContext context) => context.HttpContext.Request.Path.StartsWithSegments(E2bTarget.Prefix);

    /// <inheritdoc/>
    public ValueTask WriteAsync(ProblemDetailsContext context)
    {
        var problem = context.ProblemDetails;
        context.HttpContext.RequestServices.GetRequiredService<Microsoft.Extensions.Options.IOptions<ProblemDetailsOptions>>()
            .Value.CustomizeProblemDetails?.Invoke(context);
        var message = problem.Detail ?? problem.Title ?? "the request failed";
        return new ValueTask(WriteAsync(context.HttpContext, problem.Status ?? context.HttpContext.Response.StatusCode, message));
    }

    /// <summary>Writes an error.</summary>
    /// <param name="context">The request, whose answer has not begun.</param>
    /// <param name="status">The status. A sandbox that is gone is not found to E2B's clients.</param>
    /// <param name="message">What is wrong.</param>
    public static Task WriteAsync(HttpContext context, int status, string message)
    {
        status = status == StatusCodes.Status410Gone ? StatusCodes.Status404NotFound : status;
        context.Response.StatusCode = status;
        return context.Response.WriteAsJsonAsync(new E2bError(status, message), E2bJson.Default.E2bError, "application/json");
    }
}
