using Microsoft.AspNetCore.Mvc;
using Microsoft.OpenApi;

namespace Pandora.Server.Api.Files;

/// <summary>Describes what the routes for files read from a request by themselves.</summary>
internal static class FileRoutes
{
    /// <summary>Describes the path, which the route reads as bytes.</summary>
    public static RouteHandlerBuilder TakesPath(this RouteHandlerBuilder route) => route.AddOpenApiOperationTransformer(
        (operation, _, _) =>
        {
            operation.Parameters ??= [];
            operation.Parameters.Insert(1, new OpenApiParameter
            {
                Name = "path",
                In = ParameterLocation.Query,
                Required = true,
                Description = "The file: 1 to 4095 bytes, percent-encoded; bytes that are not UTF-8 are allowed. It is relative to the "
                    + "user's home when it does not begin with a slash.",
                Schema = new OpenApiSchema { Type = JsonSchemaType.String },
            });
            return Task.CompletedTask;
        });

    /// <summary>Describes a body of any length, whose type the framework must not check.</summary>
    public static RouteHandlerBuilder TakesBytes(this RouteHandlerBuilder route, params string[] types) => route
        .WithMetadata(new DisableRequestSizeLimitAttribute())
        .AddOpenApiOperationTransformer((operation, _, _) =>
        {
            operation.RequestBody = new OpenApiRequestBody
            {
                Required = true,
                Content = types.ToDictionary(
                    t => t,
                    _ => new OpenApiMediaType { Schema = new OpenApiSchema { Type = JsonSchemaType.String, Format = "binary" } }),
            };
            return Task.CompletedTask;
        });
}
