using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>What <c>/openapi/v1.json</c> says besides what routes and records say by themselves.</summary>
internal static class ApiDescription
{
    public static void Configure(OpenApiOptions options)
    {
        options.AddDocumentTransformer((document, _, _) =>
        {
            document.Info.Title = "Pandora";
            document.Info.Version = HealthApi.Version;
            document.Info.Description = "Throw-away sandboxes in real microVMs.";
            document.Servers?.Clear();
            return Task.CompletedTask;
        });
        options.AddSchemaTransformer((schema, context, _) =>
        {
            // What has a converter of its own has no type for the framework, and a generated client no text.
            if (context.JsonPropertyInfo?.CustomConverter is LongTextConverter)
            {
                schema.Type = JsonSchemaType.String;
            }

            return Task.CompletedTask;
        });
    }
}
