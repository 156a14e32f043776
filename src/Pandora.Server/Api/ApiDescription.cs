using System.Text.RegularExpressions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api;

/// <summary>What <c>/openapi/v1.json</c> says besides what routes and records say by themselves.</summary>
internal static partial class ApiDescription
{
    // Told in words and not as an enumeration: a client must not fail at a value of a later server.
    private static readonly Dictionary<(Type Record, string Property), IEnumerable<string>> Values = new()
    {
        [(typeof(ApiProblem), "code")] = ErrorCodes.All.Select(c => c.Code).Distinct(),
        [(typeof(ApiProblem), "command")] = Label.All<CommandOutcome>(),
        [(typeof(Receipt), "reason")] = Label.All<EndReason>(),
        [(typeof(ReceiptResource), "kind")] = Label.All<ResourceKind>(),
    };

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
        // What a comment in the code says is broken into lines there, for readers of the code only.
        options.AddOperationTransformer((operation, _, _) =>
        {
            operation.Description = Unwrap(operation.Description);
            return Task.CompletedTask;
        });
        options.AddSchemaTransformer((schema, context, _) =>
        {
            schema.Description = Unwrap(schema.Description);
            // What has a converter of its own has no type for the framework, and a generated client no text.
            if (context.JsonPropertyInfo?.CustomConverter is LongTextConverter)
            {
                schema.Type = JsonSchemaType.String;
            }

            if (context.JsonPropertyInfo is { } property && Values.TryGetValue((property.DeclaringType, property.Name), out var values))
            {
                schema.Description = $"{schema.Description} One of: {string.Join(", ", values.Select(v => $"`{v}`"))}.";
            }

            return Task.CompletedTask;
        });
    }
    private static string? Unwrap(string? text) => text is null ? null : LineBreak().Replace(text, " ");

    [GeneratedRegex(@"\s*\n\s*")]
    private static partial Regex LineBreak();
}
