namespace Pandora.Server.Api;

/// <summary>Answers HEAD as GET without a body (RFC 9110, section 9.3.2). The web server omits the body.</summary>
internal static class HeadRequests
{
    /// <summary>Routes HEAD as GET. Must come before routing, which would find no route for HEAD.</summary>
    public static void UseHeadRequests(this IApplicationBuilder app) => app.Use((context, next) =>
    {
        if (HttpMethods.IsHead(context.Request.Method))
        {
            context.Request.Method = HttpMethods.Get;
            context.Items[typeof(HeadRequests)] = true;
        }

        return next(context);
    });

    /// <summary>Whether the client asked with HEAD, so that a route must not wait for what it would write.</summary>
    public static bool IsHead(HttpContext context) => context.Items.ContainsKey(typeof(HeadRequests));

    /// <summary>Adds HEAD to the header <c>Allow</c> that the framework wrote, if GET is in it.</summary>
    public static void Allow(HttpResponse response)
    {
        var allowed = response.Headers.Allow.ToString().Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (allowed.Contains(HttpMethods.Get) && !allowed.Contains(HttpMethods.Head))
        {
            response.Headers.Allow = string.Join(", ", [.. allowed, HttpMethods.Head]);
        }
    }
}
