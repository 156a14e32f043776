using System.Globalization;
using System.Text.RegularExpressions;
using Microsoft.AspNetCore.OpenApi;
using Microsoft.OpenApi;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api;

/// <summary>Adds to <c>/openapi/v1.json</c> what the routes and records do not say by themselves.</summary>
internal static partial class ApiDescription
{
    // Listed in the description and not as an enumeration: a client must not fail at a value that a later server adds.
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
        // Descriptions come from comments in the code, where they are broken into lines for readers of the code.
        options.AddOperationTransformer((operation, _, _) =>
        {
            operation.Description = Unwrap(operation.Description);
            return Task.CompletedTask;
        });
        options.AddSchemaTransformer((schema, context, _) =>
        {
            schema.Description = Unwrap(schema.Description);
            // A range without an upper bound.
            schema.Maximum = schema.Maximum == double.MaxValue.ToString("R", CultureInfo.InvariantCulture) ? null : schema.Maximum;
            // The framework writes no type for a property with a custom converter, and a generated client would not read it as text.
            if (context.JsonPropertyInfo?.CustomConverter is LongTextConverter)
            {
                schema.Type = JsonSchemaType.String | (context.JsonPropertyInfo.IsGetNullable ? JsonSchemaType.Null : 0);
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
