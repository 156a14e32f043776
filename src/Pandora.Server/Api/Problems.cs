using System.Text.Json;
using Microsoft.AspNetCore.Diagnostics;
using Microsoft.AspNetCore.Mvc;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests;

namespace Pandora.Server.Api;

/// <summary>The one place that turns what went wrong into problem details.</summary>
public sealed partial class Problems(ILogger<Problems> logger) : IExceptionHandler
{
    /// <summary>What a body that is no JSON is told.</summary>
    internal const string NotJson = "the body must be JSON, sent with 'Content-Type: application/json'";

    /// <summary>Makes a problem. What an operator could do about it is no part of the detail but the hint.</summary>
    public static IResult Create(
        int status, string code, string detail, IReadOnlyDictionary<string, string[]>? errors = null,
        CommandOutcome? command = null, string? hint = null)
    {
        var extensions = new Dictionary<string, object?> { ["code"] = code };
        if (hint is not null)
        {
            extensions["hint"] = hint;
        }

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
            validation.Errors = validation.Errors.ToDictionary(e => JsonNamingPolicy.SnakeCaseLower.ConvertName(e.Key), e => e.Value);
            problem.Detail ??= string.Join("; ", validation.Errors.Select(e => $"{e.Key}: {string.Join(", ", e.Value)}"));
        }

        problem.Extensions.TryAdd("code", problem.Status switch
        {
            404 => ProblemCodes.NotFound,
            405 => ProblemCodes.MethodNotAllowed,
            >= 500 => ProblemCodes.Internal,
            _ => ProblemCodes.InvalidRequest,
        });
        problem.Detail ??= problem.Status switch
        {
            404 => "there is nothing here: /openapi/v1.json lists what there is",
            405 => "this is not done with that method; the header Allow lists those that are",
            415 => NotJson,
            _ => null,
        };
        if (problem.Status == 405)
        {
            HeadRequests.Allow(context.HttpContext.Response);
        }
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
                    ? Create(status, code, e.Message, command: e.Command, hint: e.Hint)
                    : Create(status, code, $"{e.Field}: {e.Message}",
                        new Dictionary<string, string[]> { [e.Field] = [e.Message] }, hint: e.Hint);
            case BadHttpRequestException e:
                return RequestFaults.ToProblem(e);
            default:
                LogUnexpected(exception);
                return Create(500, ProblemCodes.Internal, "the server failed; its log says why");
        }
    }

    internal static string Title(int status) => status switch
    {
        400 => "Invalid request",
        401 => "Key needed",
        403 => "Forbidden",
        404 => "Not found",
        405 => "Method not allowed",
        408 => "Too slow",
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
