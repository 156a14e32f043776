using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The server answered with an error.</summary>
public class PandoraApiException : Exception
{
    internal PandoraApiException(string message, ApiProblem problem, Exception? innerException = null)
        : base(message, innerException) => Problem = problem;

    /// <summary>The server's own words.</summary>
    public ApiProblem Problem { get; }

    /// <summary>Stable code of the problem, one of <see cref="ErrorCodes"/>, or null when the answer was not the server's.</summary>
    public string? Code => Problem.Code;

    /// <summary>What the server's operator could do, or should know; null for nothing.</summary>
    public string? Hint => Problem.Hint;

    internal static PandoraApiException From(ApiProblem problem)
    {
        var message = problem.Detail ?? problem.Title ?? $"HTTP {problem.Status}";
        return (ErrorCodes.Find(problem.Code)?.Kind ?? ErrorKind.Other) switch
        {
            ErrorKind.Other => new PandoraApiException(message, problem),
            ErrorKind.InvalidRequest => new InvalidRequestException(message, problem),
            ErrorKind.SandboxNotFound => new SandboxNotFoundException(message, problem),
            ErrorKind.SandboxGone => new SandboxGoneException(message, problem),
            ErrorKind.SandboxUnavailable => new SandboxUnavailableException(message, problem),
            ErrorKind.ExecTimeout => new ExecTimeoutException(message, problem),
            ErrorKind.ExecInterrupted => new ExecInterruptedException(message, problem),
        };
    }
}

/// <summary>A value is missing or out of its range; <see cref="ApiProblem.Errors"/> names the field.</summary>
public sealed class InvalidRequestException : PandoraApiException
{
    internal InvalidRequestException(string message, ApiProblem problem)
        : base(message, problem)
    {
    }
}

/// <summary>There is no such sandbox: it never was, was deleted, or was reaped.</summary>
public sealed class SandboxNotFoundException : PandoraApiException
{
    internal SandboxNotFoundException(string message, ApiProblem problem)
        : base(message, problem)
    {
    }
}

/// <summary>The sandbox's microVM died.</summary>
public sealed class SandboxGoneException : PandoraApiException
{
    internal SandboxGoneException(string message, ApiProblem problem)
        : base(message, problem)
    {
    }
}

/// <summary>No sandbox is to be had now; try again in a few seconds.</summary>
public sealed class SandboxUnavailableException : PandoraApiException
{
    internal SandboxUnavailableException(string message, ApiProblem problem)
        : base(message, problem)
    {
    }
}

/// <summary>A command ran into its timeout. <see cref="Command"/> tells what became of it.</summary>
public sealed class ExecTimeoutException : PandoraApiException
{
    internal ExecTimeoutException(string message, ApiProblem problem)
        : base(message, problem)
    {
    }

    /// <summary>Standard output until then.</summary>
    public string Stdout => Problem.Stdout ?? "";

    /// <summary>Standard error until then.</summary>
    public string Stderr => Problem.Stderr ?? "";

    /// <summary>What the server knows of the command: one of <see cref="CommandStates"/>.</summary>
    public string Command => Problem.Command ?? CommandStates.Unknown;
}

/// <summary>
/// The server went away while a command ran. It may have run in part; nobody repeats it. The sandbox may live on: ask again in a few
/// seconds.
/// </summary>
public sealed class ExecInterruptedException : PandoraApiException
{
    internal ExecInterruptedException(string message, ApiProblem problem, Exception? innerException = null)
        : base(message, problem, innerException)
    {
    }
}

/// <summary>Nothing answers at the server's address.</summary>
public sealed class ServerUnreachableException : Exception
{
    internal ServerUnreachableException(string message, string hint, Exception innerException)
        : base(message, innerException) => Hint = hint;

    /// <summary>What starts a server.</summary>
    public string Hint { get; }
}
