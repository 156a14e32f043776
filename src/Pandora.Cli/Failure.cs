using System.CommandLine;
using System.Text.Json;
using Pandora.Client;
using Pandora.Contracts;

namespace Pandora.Cli;

/// <summary>
/// Why a command failed. It goes to standard error: as a sentence, or with <c>--json</c> as one JSON object with
/// <c>code</c> and <c>detail</c> and, of an API's problem, all its members. Standard output holds results only, so what reads it never
/// takes an error for one.
/// </summary>
/// <param name="ExitCode">125, or 130 after Ctrl-C: never one that a command of the user's is likely to have. The command's own where it
/// ran and only what came after it failed.</param>
/// <param name="Problem">What happened.</param>
internal sealed record Failure(int ExitCode, ApiProblem Problem)
{
    /// <summary>
    /// Exit code when Pandora itself failed; commands' own codes are passed on, and 125 is what other runners use for this.
    /// </summary>
    public const int Failed = 125;

    /// <summary>Exit code of what was ended by SIGINT.</summary>
    public const int Interrupted = 130;

    /// <summary>Exit code of timeout(1).</summary>
    public const int TimedOut = 124;

    private const string KeyHint = "set PANDORA_API_KEY to a key that an operator makes with './pandora key create --project P' on the "
        + "server's host; as root on that host no key is needed";

    /// <summary>The failure that an exception stands for; null when it is a defect.</summary>
    public static Failure? Of(Exception exception) => exception switch
    {
        PandoraApiException { Code: { } code } e when code == ErrorCodes.Unauthorized.Code =>
            new(Failed, e.Wire with { Detail = e.Message, Hint = KeyHint }),
        PandoraApiException e =>
            new(e is ExecTimeoutException ? TimedOut : Failed, e.Wire with { Detail = e.Message, Code = e.Code ?? "unexpected_answer" }),
        ServerUnreachableException e => new(Failed, new ApiProblem(Detail: e.Message, Code: "unreachable", Hint: e.Hint)),
        UsageException => Usage(exception.Message),
        HardwareRequiredException => new(Failed, new ApiProblem(Detail: exception.Message, Code: "hardware_required")),
        FileTransferException => new(Failed, new ApiProblem(Detail: exception.Message, Code: "transfer_failed")),
        StoppedException e => new(e.ExitCode, new ApiProblem(Detail: exception.Message, Code: "cancelled")),
        OperationCanceledException => new(Interrupted, new ApiProblem(Detail: "interrupted", Code: "cancelled")),
        UnexpectedAnswerException => new(Failed, new ApiProblem(Detail: exception.Message, Code: "unexpected_answer")),
        PortStreamException => new(Failed, new ApiProblem(Detail: exception.Message, Code: "connection_broken")),
        // The client has exceptions of its own for broken connections, so this is a local file or stream.
        IOException or UnauthorizedAccessException =>
            new(Failed, new ApiProblem(Detail: $"this program could not read or write: {exception.Message}", Code: "local_io")),
        _ => null,
    };

    /// <summary>A command line that is not understood.</summary>
    public static Failure Usage(string detail) => new(Failed, new ApiProblem(Detail: detail, Code: "usage"));

    /// <summary>A command line that the parser does not understand.</summary>
    public static Failure Usage(ParseResult result)
    {
        var words = string.Join("; ", result.Errors.Select(e => e.Message.TrimEnd('.')));
        var command = result.CommandResult.Command;
        return Usage($"{words} ('./pandora {(command is RootCommand ? "" : $"{command.Name} ")}--help' shows how it is used)");
    }

    /// <summary>Prints it on standard error and returns the exit code.</summary>
    public int Print(bool asJson)
    {
        var hint = Problem.Hint is null ? "" : $"\npandora: hint: {Problem.Hint}";
        try
        {
            Console.Error.WriteLine(
                asJson ? JsonSerializer.Serialize(Problem, PandoraJson.Default.ApiProblem) : $"pandora: {Problem.Detail}{hint}");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // Standard error is closed or full: only the exit code can report the failure.
        }

        return ExitCode;
    }
}

/// <summary>The user's command line cannot be carried out as it is.</summary>
internal sealed class UsageException(string message) : Exception(message);

/// <summary>The user stopped it; the message says what is known of the command and of the sandbox.</summary>
internal sealed class StoppedException(string message, int exitCode = Failure.Interrupted) : Exception(message)
{
    /// <summary>Exit code of this program.</summary>
    public int ExitCode => exitCode;

    /// <summary>What is known of a command whose request was ended: the server does not answer that any more.</summary>
    public const string CommandWords = "interrupted; the request was ended, and the server stops a command whose client has gone";
}

/// <summary>The user asked for hardware virtualisation, and the server does not say that it has it.</summary>
internal sealed class HardwareRequiredException(string message) : Exception(message);
