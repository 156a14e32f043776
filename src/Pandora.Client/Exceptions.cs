using System.Net;
using System.Text;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>Base of all exceptions that this client throws, apart from <see cref="OperationCanceledException"/> and those of wrong
/// arguments.</summary>
public abstract class PandoraClientException : Exception
{
    /// <summary>Creates it.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Its cause.</param>
    protected PandoraClientException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}

/// <summary>No server answers at the address.</summary>
public sealed class ServerUnreachableException : PandoraClientException
{
    /// <summary>Creates it.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Its cause.</param>
    public ServerUnreachableException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }

    /// <summary>How to start a server.</summary>
    public string Hint { get; } = "'./pandora up' starts one";
}

/// <summary>
/// The connection broke before the whole answer had come, or the answer is not one of a Pandora server. Whether the request was carried out
/// is not known.
/// </summary>
public sealed class UnexpectedAnswerException : PandoraClientException
{
    /// <summary>Creates it.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="innerException">Its cause.</param>
    public UnexpectedAnswerException(string message, Exception? innerException = null)
        : base(message, innerException)
    {
    }
}

/// <summary>The server answered with an error. Derived classes are the errors that programs often handle.</summary>
public class PandoraApiException : PandoraClientException
{
    /// <summary>Creates it, for tests of a program that uses the client.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="code">One of <see cref="ErrorCodes"/>.</param>
    /// <param name="status">HTTP status.</param>
    public PandoraApiException(string message, string? code = null, int? status = null)
        : this(message, new ApiProblem(Status: status, Detail: message, Code: code))
    {
    }

    internal PandoraApiException(string message, ApiProblem problem, TimeSpan? retryAfter = null, Exception? innerException = null)
        : base(message, innerException) => (Wire, RetryAfter) = (problem, retryAfter);

    /// <summary>
    /// Stable code of the error, one of <see cref="ErrorCodes"/>; null when something between client and server answered.
    /// </summary>
    public string? Code => Wire.Code;

    /// <summary>HTTP status; null when there was no answer.</summary>
    public int? Status => Wire.Status;

    /// <summary>What the server's operator can do or should know; null for nothing.</summary>
    public string? Hint => Wire.Hint;

    /// <summary>For bad input: each wrong field, and what is wrong with it.</summary>
    public IReadOnlyDictionary<string, string[]> Errors => Wire.Errors ?? new Dictionary<string, string[]>();

    /// <summary>What the server knows of a command that did not end by itself, one of <see cref="CommandStates"/>; null for other
    /// errors.</summary>
    public string? CommandState => Wire.Command;

    /// <summary>Time after which a new try makes sense, as the server said; null when it did not say.</summary>
    public TimeSpan? RetryAfter { get; init; }

    /// <summary>The answer of the server.</summary>
    [Obsolete("Use Code, Status, Errors and Hint")]
    public ApiProblem Problem => Wire;

    internal ApiProblem Wire { get; }

    /// <summary>
    /// Whether the server did nothing of the request and the same request may succeed later. A wrong key does not become right by waiting:
    /// the program must learn of <c>too_many_attempts</c> at once, and more tries would only be counted against its address.
    /// </summary>
    internal bool MayPass => Code == ErrorCodes.Recovering.Code
        || (Status == (int)HttpStatusCode.TooManyRequests && Code != ErrorCodes.TooManyAttempts.Code);

    internal static PandoraApiException From(ApiProblem problem, TimeSpan? retryAfter)
    {
        var words = new[] { problem.Detail, problem.Title };
        var message = words.FirstOrDefault(w => !string.IsNullOrWhiteSpace(w)) ?? $"HTTP {problem.Status}";
        return (ErrorCodes.Find(problem.Code)?.Kind ?? ErrorKind.Other) switch
        {
            ErrorKind.Other => new PandoraApiException(message, problem, retryAfter),
            ErrorKind.InvalidRequest => new InvalidRequestException(message, problem, retryAfter),
            ErrorKind.SandboxNotFound => new SandboxNotFoundException(message, problem, retryAfter),
            ErrorKind.SandboxGone => new SandboxGoneException(message, problem, retryAfter),
            ErrorKind.SandboxUnavailable => new SandboxUnavailableException(message, problem, retryAfter),
            ErrorKind.ExecTimeout => new ExecTimeoutException(message, problem, retryAfter),
            ErrorKind.ExecInterrupted => new ExecInterruptedException(message, problem, retryAfter),
        };
    }
}

/// <summary>A value is missing or out of its range; <see cref="PandoraApiException.Errors"/> names the field.</summary>
public sealed class InvalidRequestException : PandoraApiException
{
    /// <inheritdoc cref="PandoraApiException(string, string, int?)"/>
    public InvalidRequestException(string message)
        : base(message, ErrorCodes.InvalidRequest.Code, ErrorCodes.InvalidRequest.Status)
    {
    }

    internal InvalidRequestException(string message, ApiProblem problem, TimeSpan? retryAfter)
        : base(message, problem, retryAfter)
    {
    }
}

/// <summary>There is no such sandbox: it never was, or it has ended.</summary>
public sealed class SandboxNotFoundException : PandoraApiException
{
    /// <inheritdoc cref="PandoraApiException(string, string, int?)"/>
    public SandboxNotFoundException(string message)
        : base(message, ErrorCodes.SandboxNotFound.Code, ErrorCodes.SandboxNotFound.Status)
    {
    }

    internal SandboxNotFoundException(string message, ApiProblem problem, TimeSpan? retryAfter)
        : base(message, problem, retryAfter)
    {
    }
}

/// <summary>The sandbox's microVM died; the message says why.</summary>
public sealed class SandboxGoneException : PandoraApiException
{
    /// <inheritdoc cref="PandoraApiException(string, string, int?)"/>
    public SandboxGoneException(string message)
        : base(message, ErrorCodes.SandboxGone.Code, ErrorCodes.SandboxGone.Status)
    {
    }

    internal SandboxGoneException(string message, ApiProblem problem, TimeSpan? retryAfter)
        : base(message, problem, retryAfter)
    {
    }
}

/// <summary>
/// The server cannot provide a sandbox now, or a quota of the project is used up; <see cref="PandoraApiException.RetryAfter"/> says when to
/// try again.
/// </summary>
public sealed class SandboxUnavailableException : PandoraApiException
{
    /// <summary>Creates it, for tests of a program that uses the client.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="code">One of <see cref="ErrorCodes"/>.</param>
    public SandboxUnavailableException(string message, string? code = null)
        : base(message, code ?? ErrorCodes.SandboxLimit.Code, (ErrorCodes.Find(code) ?? ErrorCodes.SandboxLimit).Status)
    {
    }

    internal SandboxUnavailableException(string message, ApiProblem problem, TimeSpan? retryAfter)
        : base(message, problem, retryAfter)
    {
    }
}

/// <summary>A command reached its timeout; <see cref="Command"/> says what became of it.</summary>
public sealed class ExecTimeoutException : PandoraApiException
{
    /// <summary>Creates it, for tests of a program that uses the client.</summary>
    /// <param name="message">What happened.</param>
    /// <param name="stdout">Standard output until the timeout.</param>
    /// <param name="stderr">Standard error until the timeout.</param>
    /// <param name="command">One of <see cref="CommandStates"/>.</param>
    public ExecTimeoutException(string message, string stdout = "", string stderr = "", string command = CommandStates.Killed)
        : this(
            message,
            new ApiProblem(
                Status: ErrorCodes.ExecTimeout.Status, Detail: message, Code: ErrorCodes.ExecTimeout.Code, Stdout: stdout, Stderr: stderr,
                Command: command),
            retryAfter: null)
    {
    }

    internal ExecTimeoutException(string message, ApiProblem problem, TimeSpan? retryAfter)
        : base(message, problem, retryAfter)
    {
    }

    /// <summary>Standard output until the timeout, as in <see cref="ExecResult.Stdout"/>.</summary>
    public string Stdout => StdoutBytes is { } bytes ? Encoding.UTF8.GetString(bytes.Span) : Wire.Stdout ?? "";

    /// <summary>Standard error until the timeout.</summary>
    public string Stderr => StderrBytes is { } bytes ? Encoding.UTF8.GetString(bytes.Span) : Wire.Stderr ?? "";

    /// <summary>Standard output until the timeout, as in <see cref="ExecResult.StdoutBytes"/>.</summary>
    public ReadOnlyMemory<byte>? StdoutBytes { get; private set; }

    /// <summary>Standard error until the timeout, likewise.</summary>
    public ReadOnlyMemory<byte>? StderrBytes { get; private set; }

    /// <summary>Whether one of the outputs was longer than the part that is kept.</summary>
    public bool IsTruncated => Wire.Truncated == true;

    /// <summary>Whether bytes of an output were replaced, as in <see cref="ExecResult.IsLossy"/>.</summary>
    public bool IsLossy => Wire.Lossy == true;

    /// <summary>Whether the sandbox's memory was full, as in <see cref="ExecResult.IsOutOfMemory"/>.</summary>
    public bool IsOutOfMemory => Wire.Oom == true;

    /// <summary>The limit of memory that was reached, in bytes; null unless <see cref="IsOutOfMemory"/>.</summary>
    public long? MemoryLimit => Wire.MemoryLimitBytes;

    /// <summary>What the server knows of the command: one of <see cref="CommandStates"/>.</summary>
    public string Command => Wire.Command ?? CommandStates.Unknown;

    internal void DecodeOutputs() => (StdoutBytes, StderrBytes) = (PandoraApi.Decode(Wire.Stdout), PandoraApi.Decode(Wire.Stderr));
}

/// <summary>
/// The server stopped, or the connection broke, while a command ran. The command may have run in part or to its end; it is not repeated.
/// The sandbox may still run: ask for it in a few seconds.
/// </summary>
public sealed class ExecInterruptedException : PandoraApiException
{
    /// <inheritdoc cref="PandoraApiException(string, string, int?)"/>
    public ExecInterruptedException(string message)
        : base(message, ErrorCodes.Interrupted.Code, ErrorCodes.Interrupted.Status)
    {
    }

    internal ExecInterruptedException(string message, ApiProblem problem, TimeSpan? retryAfter, Exception? innerException = null)
        : base(message, problem, retryAfter, innerException)
    {
    }
}
