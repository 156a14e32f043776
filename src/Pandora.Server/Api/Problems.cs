using System.Text.Json;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Mvc;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guest;

namespace Pandora.Server.Api;

/// <summary>The one place that turns what went wrong into problem details.</summary>
public sealed partial class Problems(ILogger<Problems> logger) : IExceptionHandler
{
    /// <summary>Makes a problem.</summary>
    public static IResult Create(
        int status, string code, string detail, IReadOnlyDictionary<string, string[]>? errors = null, CommandOutcome? command = null)
    {
        var extensions = new Dictionary<string, object?> { ["code"] = code };
        if (errors is not null)
        {
            extensions["errors"] = errors;
        }

        if (command is { } outcome)
        {
            extensions["command"] = NameOf(outcome);
        }

        return TypedResults.Problem(detail, statusCode: status, title: Title(status), extensions: extensions);
    }

    /// <summary>How the wire names what is known of a command.</summary>
    internal static string NameOf(CommandOutcome outcome) => outcome switch
    {
        CommandOutcome.Killed => CommandStates.Killed,
        CommandOutcome.NotStarted => CommandStates.NotStarted,
        CommandOutcome.Unreachable => CommandStates.Unreachable,
        _ => CommandStates.Unknown,
    };

    /// <inheritdoc/>
    public async ValueTask<bool> TryHandleAsync(HttpContext httpContext, Exception exception, CancellationToken cancellationToken)
    {
        if (httpContext.RequestAborted.IsCancellationRequested)
        {
            // Nobody is there to read an answer.
            httpContext.Response.StatusCode = 499;
            return true;
        }

        if (exception is PandoraException { Error: PandoraError.PoolEmpty or PandoraError.SandboxLimit or PandoraError.ShuttingDown or PandoraError.TooManyExecs or PandoraError.Recovering or PandoraError.Overloaded or PandoraError.HostFull or PandoraError.NotProtected } refused)
        {
            httpContext.Response.Headers.RetryAfter = refused.Error == PandoraError.Recovering ? "1" : "5";
        }

        await ToResult(exception).ExecuteAsync(httpContext);
        return true;
    }

    /// <summary>Adds the code to problems that the framework makes, and names fields as the wire does.</summary>
    public static void Customize(ProblemDetailsContext context)
    {
        var problem = context.ProblemDetails;
        problem.Type = null;
        problem.Title = Title(problem.Status ?? 500);
        problem.Extensions.Remove("trace_id");
        if (problem is HttpValidationProblemDetails validation)
        {
            validation.Errors = validation.Errors.ToDictionary(e => JsonNamingPolicy.SnakeCaseLower.ConvertName(e.Key), e => e.Value.Select(Plain).ToArray());
            problem.Detail ??= string.Join("; ", validation.Errors.Select(e => $"{e.Key}: {string.Join(", ", e.Value)}"));
        }

        problem.Extensions.TryAdd("code", problem.Status switch
        {
            404 or 405 => ProblemCodes.NotFound,
            >= 500 => ProblemCodes.Internal,
            _ => ProblemCodes.InvalidRequest,
        });
        problem.Detail ??= problem.Status switch
        {
            404 => "there is nothing here: /openapi/v1.json lists what there is",
            405 => "this is not done with that method: /openapi/v1.json lists what there is",
            415 => "the body must be JSON, sent with 'Content-Type: application/json'",
            _ => null,
        };
    }

    private IResult ToResult(Exception exception)
    {
        switch (exception)
        {
            case PandoraException e:
                var (status, code) = e.Error switch
                {
                    PandoraError.InvalidRequest => (400, ProblemCodes.InvalidRequest),
                    PandoraError.SandboxNotFound => (404, ProblemCodes.SandboxNotFound),
                    PandoraError.SandboxGone => (410, ProblemCodes.SandboxGone),
                    PandoraError.TooManyExecs => (429, ProblemCodes.TooManyExecs),
                    PandoraError.SandboxLimit => (503, ProblemCodes.SandboxLimit),
                    PandoraError.PoolEmpty => (503, ProblemCodes.PoolEmpty),
                    PandoraError.ShuttingDown => (503, ProblemCodes.ShuttingDown),
                    PandoraError.Recovering => (503, ProblemCodes.Recovering),
                    PandoraError.Interrupted => (503, ProblemCodes.Interrupted),
                    PandoraError.HostFull => (503, ProblemCodes.HostFull),
                    PandoraError.NotProtected => (503, ProblemCodes.NotProtected),
                    PandoraError.EgressForbidden => (403, ProblemCodes.EgressForbidden),
                    PandoraError.Overloaded => (429, ProblemCodes.Overloaded),
                    PandoraError.IdempotencyMismatch => (422, ProblemCodes.IdempotencyMismatch),
                    _ => (502, ProblemCodes.GuestUnreachable),
                };
                return e.Field is null
                    ? Create(status, code, e.Message, command: e.Command)
                    : Create(status, code, $"{e.Field}: {e.Message}", new Dictionary<string, string[]> { [e.Field] = [e.Message] });
            case BadHttpRequestException { StatusCode: 413 }:
                return Create(413, ProblemCodes.InvalidRequest, "the body is larger than any valid request");
            case BadHttpRequestException { StatusCode: 415 }:
                return Create(415, ProblemCodes.InvalidRequest, "the body must be JSON, sent with 'Content-Type: application/json'");
            case BadHttpRequestException { InnerException: JsonException json }:
                return FromJson(json);
            case BadHttpRequestException e:
                return Create(e.StatusCode, ProblemCodes.InvalidRequest, e.Message);
            default:
                LogUnexpected(exception);
                return Create(500, ProblemCodes.Internal, "the server failed; its log says why");
        }
    }

    private static IResult FromJson(JsonException json)
    {
        // $.idle_timeout, or $ for the whole; System.Text.Json's own words name .NET types, which tell a client nothing.
        var field = json.Path is { Length: > 2 } path && path.StartsWith("$.", StringComparison.Ordinal) ? path[2..] : null;
        if (field is null)
        {
            return Create(400, ProblemCodes.InvalidRequest, $"the body is not the JSON that this takes: {Plain(json.Message)}");
        }

        var words = json.Message.Contains("could not be mapped", StringComparison.Ordinal) ? "is not a field of this request" : "has the wrong type";
        return Create(400, ProblemCodes.InvalidRequest, $"{field}: {words}", new Dictionary<string, string[]> { [field] = [words] });
    }

    private static string Plain(string message) => message
        .Replace("The field ", "", StringComparison.Ordinal).Split(" Path: $")[0].Split("Pandora.Contracts.")[0].TrimEnd();

    internal static string Title(int status) => status switch
    {
        400 => "Invalid request",
        401 => "Key needed",
        403 => "Forbidden",
        404 => "Not found",
        405 => "Method not allowed",
        410 => "Gone",
        413 => "Body too large",
        415 => "Not JSON",
        422 => "Key used before",
        429 => "Too many at once",
        502 => "Guest unreachable",
        503 => "Not available now",
        504 => "Command timed out",
        _ => "Server error",
    };

    [LoggerMessage(Level = LogLevel.Error, Message = "A request failed unexpectedly")]
    private partial void LogUnexpected(Exception exception);
}
