using System.Net.Http.Headers;
using System.Text;
using Microsoft.AspNetCore.Http.Metadata;
using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>
/// Checks a body's content type before the framework reads it: the framework throws where the charset is quoted or unknown. JSON is UTF-8
/// (RFC 8259, section 8.1), so <c>utf8</c> is read as <c>utf-8</c>. Any other charset that .NET supports is accepted.
/// </summary>
internal sealed class ContentTypes(RequestDelegate next)
{
    /// <summary>Handles a request.</summary>
    public Task InvokeAsync(HttpContext context)
    {
        var request = context.Request;
        // An endpoint that reads no body accepts any type.
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
                return RefuseAsync(context, charset.Length == 0 ? "the charset is empty" : $"the charset '{charset}' is not supported");
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
            // .NET knows UTF-7 and does not support it.
            return false;
        }
    }

    private static Task RefuseAsync(HttpContext context, string fault) => Problems.Create(
        ErrorCodes.NotJson, $"{fault}: send JSON in UTF-8 with 'Content-Type: application/json'").ExecuteAsync(context);
}
