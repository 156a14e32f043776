namespace Pandora.Server.Api.Files;

/// <summary>
/// An answer that is sent before its request's body was read to the end. Then the rest is read, because many clients read no answer before
/// they have sent all.
/// </summary>
/// <param name="answer">The answer.</param>
/// <param name="body">The body.</param>
internal sealed class EarlyAnswer(IResult answer, FileBody body) : IResult
{
    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await answer.ExecuteAsync(httpContext);
        await httpContext.Response.CompleteAsync();
        await body.DrainAsync(httpContext.RequestAborted);
    }
}
