using System.Collections.Frozen;
using System.Text.Json;
using Microsoft.AspNetCore.Diagnostics;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Telemetry;

namespace Pandora.Server.Api;

/// <summary>
/// Turns every failure of a request into problem details; no other class does. <see cref="ErrorCodes"/> has the codes, statuses and titles.
/// </summary>
public sealed partial class Problems(ILogger<Problems> logger) : IExceptionHandler
{
    /// <summary>The code of each of the engine's errors: the code with the same name.</summary>
    internal static readonly FrozenDictionary<PandoraError, ErrorCode> OfEngine = Enum.GetValues<PandoraError>()
        .Select(e => (Error: e, Code: ErrorCodes.Find(Label.Of(e))))
        .Where(e => e.Code is not null)
        .ToFrozenDictionary(e => e.Error, e => e.Code!);

    /// <summary>The detail of the problem for a body that is not JSON.</summary>
    internal const string NotJson = "the body must be JSON, sent with 'Content-Type: application/json'";

    // The statuses with which the framework itself refuses a request.
    private static readonly FrozenDictionary<int, ErrorCode> OfFramework = new[]
    {
        ErrorCodes.InvalidRequest, ErrorCodes.NotFound, ErrorCodes.MethodNotAllowed, ErrorCodes.BodyTooSlow, ErrorCodes.BodyTooLarge,
        ErrorCodes.NotJson, ErrorCodes.Internal,
    }.ToFrozenDictionary(c => c.Status);

    /// <summary>The failures that the engine counts: each operation with each code with which it may fail in the engine.</summary>
    internal static IEnumerable<(SandboxOperation Operation, string Code)> Counted =>
        from operation in Enum.GetValues<SandboxOperation>()
        from code in OfEngine.Values.Append(ErrorCodes.ExecTimeout).Append(ErrorCodes.Internal)
        where code.Operations.HasFlag(Enum.Parse<ApiOperations>($"{operation}"))
        select (operation, code.Code);

    /// <summary>Makes a problem. Advice for the operator goes into the hint and not into the detail.</summary>
    public static IResult Create(
        ErrorCode code, string detail, IReadOnlyDictionary<string, string[]>? errors = null, CommandOutcome? command = null,
        string? hint = null)
    {
        var extensions = new Dictionary<string, object?> { ["code"] = code.Code };
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
            extensions["command"] = Label.Of(outcome);
        }

        return new Answer(code, TypedResults.Problem(detail, statusCode: code.Status, title: code.Title, extensions: extensions));
    }

    /// <summary>
    /// The code for a status with which the framework refuses a request. An unknown status has the code of the first status of its class
    /// (RFC 9110, section 15).
    /// </summary>
    internal static ErrorCode OfStatus(int status)
    {
        if (OfFramework.TryGetValue(status, out var code))
        {
            return code;
        }

        return status >= 500 ? ErrorCodes.Internal : ErrorCodes.InvalidRequest;
    }

    /// <summary>Describes an error for the end of a stream, whose status was sent before.</summary>
    public ApiProblem Describe(Exception exception)
    {
        if (exception is PandoraException e && OfEngine.TryGetValue(e.Error, out var code))
        {
            return new ApiProblem(
                code.Title, code.Status, e.Message, code.Code, Command: e.Command is { } command ? Label.Of(command) : null, Hint: e.Hint);
        }

        LogUnexpected(exception);
        return new ApiProblem(
            ErrorCodes.Internal.Title, ErrorCodes.Internal.Status, "the server failed; its log says why", ErrorCodes.Internal.Code);
    }

    /// <inheritdoc/>
    public async ValueTask<bool> TryHandleAsync(HttpContext httpContext, Exception exception, CancellationToken cancellationToken)
    {
        if (httpContext.RequestAborted.IsCancellationRequested)
        {
            // The client is gone: no answer can reach it.
            httpContext.Response.StatusCode = 499;
            return true;
        }

        await ToResult(exception).ExecuteAsync(httpContext);
        return true;
    }

    /// <summary>Adds the code to problems that the framework makes, and writes the names of fields as on the wire.</summary>
    public static void Customize(ProblemDetailsContext context)
    {
        var problem = context.ProblemDetails;
        problem.Type = null;
        problem.Extensions.Remove("trace_id");
        if (problem.Extensions.ContainsKey("code"))
        {
            return;
        }

        var code = OfStatus(problem.Status ?? 500);
        problem.Title = code.Title;
        problem.Extensions["code"] = code.Code;
        if (problem is HttpValidationProblemDetails validation)
        {
            validation.Errors = validation.Errors.ToDictionary(e => JsonNamingPolicy.SnakeCaseLower.ConvertName(e.Key), e => e.Value);
            problem.Detail ??= string.Join("; ", validation.Errors.Select(e => $"{e.Key}: {string.Join(", ", e.Value)}"));
        }

        problem.Detail ??= problem.Status switch
        {
            404 => "there is no such route; /openapi/v1.json lists the routes",
            405 => "the route does not support this method; the header Allow lists the methods that it supports",
            415 => NotJson,
            _ => null,
        };
        if (problem.Status == 405)
        {
            HeadRequests.Allow(context.HttpContext.Response);
        }
    }

    /// <summary>The problem of a failure.</summary>
    internal IResult ToResult(Exception exception)
    {
        switch (exception)
        {
            case PandoraException e when OfEngine.TryGetValue(e.Error, out var code):
                return e.Field is null
                    ? Create(code, e.Message, command: e.Command, hint: e.Hint)
                    : Create(code, $"{e.Field}: {e.Message}", new Dictionary<string, string[]> { [e.Field] = [e.Message] }, hint: e.Hint);
            case BadHttpRequestException e:
                return RequestFaults.ToProblem(e);
            default:
                LogUnexpected(exception);
                return Create(ErrorCodes.Internal, "the server failed; its log says why");
        }
    }

    [LoggerMessage(Level = LogLevel.Error, Message = "A request failed unexpectedly")]
    private partial void LogUnexpected(Exception exception);

    private sealed class Answer(ErrorCode code, IResult problem) : IResult
    {
        public Task ExecuteAsync(HttpContext httpContext)
        {
            if (code.RetryAfterSeconds is { } seconds)
            {
                httpContext.Response.Headers.RetryAfter = $"{seconds}";
            }

            return problem.ExecuteAsync(httpContext);
        }
    }
}
