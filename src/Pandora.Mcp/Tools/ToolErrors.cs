using System.Text.Json.Nodes;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using ModelContextProtocol.Protocol;
using ModelContextProtocol.Server;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Telemetry;

namespace Pandora.Mcp.Tools;

/// <summary>Failures as answers: a code, what happened, and what to do.</summary>
internal static partial class ToolErrors
{
    private const int MaxMessage = 400;

    /// <summary>The answer for a failure that the engine names. What the guest said of it is in a block of its own.</summary>
    /// <param name="exception">The failure.</param>
    /// <param name="handle">Handle of a process that may run on; null for none.</param>
    /// <param name="wasNew">Whether a sandbox was made for the call.</param>
    public static CallToolResult Of(PandoraException exception, string? handle = null, bool wasNew = false)
    {
        var code = ErrorCodes.Find(Label.Of(exception.Error));
        var field = exception.Field is { } name ? $"{name}: " : "";
        // Messages repeat what the client sent, however long it was.
        var message = exception.Message.Length > MaxMessage ? $"{exception.Message[..MaxMessage]}…" : exception.Message;
        var words = exception.HasGuestWords ? $"{KindOf(exception)}; the next block has the sandbox's own words" : message;
        var advice = handle is not null ? $". Its process {handle} may run on: process_read reads it"
            : wasNew ? ". The call named no sandbox: it was tried in a new one, which ends now. Give 'sandbox' to use one that you have"
            : AdviceOf(exception, code);
        var result = Make(Label.Of(exception.Error), $"{field}{words}{advice}", exception.Field, code?.RetryAfterSeconds);
        if (exception.HasGuestWords)
        {
            result.Content.Add(GuestBlock.Mark(new TextContentBlock { Text = message }));
        }

        return result;
    }

    /// <summary>The answer when the time for an answer is over.</summary>
    public static CallToolResult OfTime(TimeSpan limit) => Make(
        "timeout",
        $"nothing came within {limit.TotalSeconds:0} s. A command that this call started is killed if the sandbox answers, and a sandbox "
            + "that was made for it ends. Whether anything else was done is not known: look before you repeat it");

    /// <summary>The answer for a failure that nobody foresaw.</summary>
    public static CallToolResult OfUnexpected(RequestContext<CallToolRequestParams> request, Exception exception)
    {
        var logger = request.Services!.GetRequiredService<ILoggerFactory>().CreateLogger(typeof(ToolErrors));
        LogUnexpected(logger, exception, request.MatchedPrimitive?.Id ?? "");
        return Make(ErrorCodes.Internal.Code, "the server failed; its log says why");
    }

    private static CallToolResult Make(string code, string message, string? field = null, int? retryAfter = null)
    {
        var error = new JsonObject { ["code"] = code };
        if (field is not null)
        {
            error["field"] = field;
        }

        if (retryAfter is { } seconds)
        {
            error["retry_after"] = seconds;
        }

        return new CallToolResult
        {
            IsError = true,
            Content = [new TextContentBlock { Text = $"{code}: {message}" }],
            Meta = new JsonObject { ["pandora/error"] = error },
        };
    }

    private static string KindOf(PandoraException exception) => exception.Error switch
    {
        PandoraError.InvalidRequest => "the sandbox refuses it",
        PandoraError.FileNotFound => "the sandbox has no such file or directory",
        PandoraError.FileAccessDenied => "the sandbox's system does not allow it",
        PandoraError.FileExists => "a file is there already, or a directory is not empty",
        PandoraError.FileState => "the file is of another kind, such as a directory, or is in use",
        PandoraError.FilePrecondition => "the file has changed since it was read, and was left as it is",
        PandoraError.DiskFull => "the sandbox's disk is full",
        PandoraError.ProcessNotFound => "the sandbox has no such process",
        PandoraError.SandboxGone => "the sandbox's microVM has died",
        PandoraError.GuestUnreachable when exception.Stop?.Outcome == CommandOutcome.NotStarted =>
            "the sandbox did not answer as it should, and nothing of the command was run",
        PandoraError.GuestUnreachable => "the sandbox did not answer as it should, and what was asked for may have been done in part",
        _ => "the sandbox could not do it",
    };

    private static string AdviceOf(PandoraException exception, ErrorCode? code) => exception.Error switch
    {
        PandoraError.SandboxNotFound => ". If it has ended, its files and processes are gone. sandbox_list has those that there are",
        PandoraError.SandboxGone => ". Its files and processes are gone. sandbox_list has those that there are",
        PandoraError.ProcessNotFound => ". The handle is the 'process' of an answer of run or process_start",
        _ when code?.RetryAfterSeconds is { } seconds => $". Try again in {seconds} s",
        _ => "",
    };

    [LoggerMessage(Level = LogLevel.Error, Message = "The tool {Tool} failed unexpectedly")]
    private static partial void LogUnexpected(ILogger logger, Exception exception, string tool);
}
