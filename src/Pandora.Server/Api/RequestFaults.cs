using System.Text.Json;
using System.Text.RegularExpressions;
using Pandora.Contracts;

namespace Pandora.Server.Api;

/// <summary>
/// Describes in the API's terms why the framework refused a request. The framework's own messages name .NET types, which mean nothing to a
/// client.
/// </summary>
internal static partial class RequestFaults
{
    /// <summary>Makes the problem for a request that the framework refused.</summary>
    public static IResult ToProblem(BadHttpRequestException exception) => exception switch
    {
        { StatusCode: 408 } => Problems.Create(ErrorCodes.BodyTooSlow, "the body came too slowly"),
        { StatusCode: 413 } => Problems.Create(ErrorCodes.BodyTooLarge, "the body is larger than any valid request"),
        { StatusCode: 415 } => Problems.Create(ErrorCodes.NotJson, Problems.NotJson),
        { InnerException: JsonException json } => FromJson(json),
        { Message: var message } when ParameterPattern().Match(message) is { Success: true } match =>
            Invalid(match.Groups["name"].Value, match.Groups["type"].Value == "bool" ? "must be true or false" : "has the wrong form"),
        { Message: var message } when message.Contains("body", StringComparison.Ordinal)
            && message.Contains("provided", StringComparison.Ordinal) =>
            Problems.Create(ErrorCodes.InvalidRequest, "the body is missing: it must be a JSON object"),
        { StatusCode: var status } => Problems.Create(Problems.OfStatus(status), "the request could not be read to its end"),
    };

    private static IResult FromJson(JsonException json)
    {
        // The path is $.idle_timeout for a field, and $ for the whole body.
        var field = json.Path is { Length: > 2 } path && path.StartsWith("$.", StringComparison.Ordinal) ? path[2..] : null;
        var fault = json switch
        {
            // The JSON reader's exception: the text is not JSON.
            { InnerException: JsonException } when json.Message.Contains("depth", StringComparison.Ordinal) => "is nested too deeply",
            { InnerException: JsonException } => $"is not valid JSON (line {json.LineNumber + 1}, byte {json.BytePositionInLine + 1})",
            { InnerException: InvalidOperationException { Message: var why } } when why.Contains("surrogate", StringComparison.Ordinal)
                => "holds half of a surrogate pair, which is no character",
            { InnerException: InvalidOperationException { Message: var why } } when why.Contains("UTF-8", StringComparison.Ordinal) =>
                "is not valid UTF-8",
            _ when json.Message.Contains("could not be mapped", StringComparison.Ordinal) => "is not a field of this request",
            _ => field is null ? "must be a JSON object" : "has the wrong type",
        };
        return field is null ? Problems.Create(ErrorCodes.InvalidRequest, $"the body {fault}") : Invalid(field, fault);
    }

    private static IResult Invalid(string field, string fault) =>
        Problems.Create(ErrorCodes.InvalidRequest, $"{field}: {fault}", new Dictionary<string, string[]> { [field] = [fault] });

    // The message of ASP.NET Core 10: Failed to bind parameter "bool receipt" from "maybe".
    [GeneratedRegex("^Failed to bind parameter \"(?<type>[^\" ]+) (?<name>[^\" ]+)\" from")]
    private static partial Regex ParameterPattern();
}
