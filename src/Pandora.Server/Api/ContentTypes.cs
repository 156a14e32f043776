using System.Net.Http.Headers;
using System.Text;
using Microsoft.AspNetCore.Http.Metadata;
using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>
/// Reads a body's content type before the framework does, which fails with an exception of its own where the charset is quoted or
/// unknown. JSON is UTF-8 (RFC 8259, section 8.1), so that is what clients mean by <c>utf8</c>; another charset is taken if .NET has it.
/// </summary>
internal sealed class ContentTypes(RequestDelegate next)
{
    /// <summary>Handles a request.</summary>
    public Task InvokeAsync(HttpContext context)
    {
        var request = context.Request;
        // Where nothing reads the body, its type does not matter.
        if (string.IsNullOrEmpty(request.ContentType) || context.GetEndpoint()?.Metadata.GetMetadata<IAcceptsMetadata>() is null)
        {
            return next(context);
        }

        if (!MediaTypeHeaderValue.TryParse(request.ContentType, out var type))
        {
            return RefuseAsync(context, "the Content-Type is not a media type");
        }

        if (type.Parameters.Count(p => p.Name.Equals("charset", StringComparison.OrdinalIgnoreCase)) > 1)
        {
            return RefuseAsync(context, "the Content-Type names several charsets");
        }

        if (type.Parameters.FirstOrDefault(p => p.Name.Equals("charset", StringComparison.OrdinalIgnoreCase)) is { } parameter)
        {
            var charset = parameter.Value?.Trim('"') ?? "";
            if (!IsKnown(ref charset))
            {
                return RefuseAsync(context, charset.Length == 0 ? "the charset is empty" : $"there is no charset '{charset}' here");
            }

            type.CharSet = charset;
            request.ContentType = type.ToString();
        }

        return next(context);
    }

    private static bool IsKnown(ref string charset)
    {
        if (charset.Equals("utf8", StringComparison.OrdinalIgnoreCase))
        {
            charset = "utf-8";
        }

        try
        {
            _ = Encoding.GetEncoding(charset);
            return charset.Length > 0;
        }
        catch (Exception e) when (e is ArgumentException or NotSupportedException)
        {
            // UTF-7 is one that .NET knows and does not support.
            return false;
        }
    }

    private static Task RefuseAsync(HttpContext context, string what) => Problems.Create(
        ErrorCodes.NotJson, $"{what}: send JSON in UTF-8 with 'Content-Type: application/json'").ExecuteAsync(context);
}
