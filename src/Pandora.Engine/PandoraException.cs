
namespace Pandora.Engine;

/// <summary>The kinds of error that a client is answered with. One place turns each into an answer.</summary>
public enum PandoraError
{
    /// <summary>The request is invalid; <see cref="PandoraException.Field"/> names the field.</summary>
    InvalidRequest,

    /// <summary>No such sandbox, or it was deleted or reaped.</summary>
    SandboxNotFound,

    /// <summary>The sandbox's microVM died.</summary>
    SandboxGone,

    /// <summary>The sandbox has no such process.</summary>
    ProcessNotFound,

    /// <summary>The process has ended, or has no input or no terminal, or its input is at another offset.</summary>
    ProcessState,

    /// <summary>Too many commands run in the sandbox at once.</summary>
    TooManyExecs,

    /// <summary>The most sandboxes that may exist at once do exist.</summary>
    SandboxLimit,

    /// <summary>No microVM became ready in time.</summary>
    PoolEmpty,

    /// <summary>The server is shutting down.</summary>
    ShuttingDown,

    /// <summary>The server is still recovering the microVMs of an earlier server.</summary>
    Recovering,

    /// <summary>
    /// The server stopped while a command ran. The command is not repeated; <see cref="PandoraException.Command"/> has its outcome.
    /// </summary>
    Interrupted,

    /// <summary>The host has no more disk space, memory or descriptors.</summary>
    HostFull,

    /// <summary>The most clients that may wait for a microVM at once do wait.</summary>
    Overloaded,

    /// <summary>A client's idempotency key was used for another request.</summary>
    IdempotencyMismatch,

    /// <summary>The network rules that isolate guests are not complete, so no microVM is handed out.</summary>
    NotProtected,

    /// <summary>The request asks for more network access than the operator allows.</summary>
    EgressForbidden,

    /// <summary>The request asks for more than its project may have.</summary>
    AboveCeiling,

    /// <summary>A quota of the project is used up.</summary>
    QuotaExceeded,

    /// <summary>The guest has no such file or directory.</summary>
    FileNotFound,

    /// <summary>The guest's user may not do that to the file.</summary>
    FileAccessDenied,

    /// <summary>A file is there already, or a directory is not empty.</summary>
    FileExists,

    /// <summary>The file is not of the kind that the request is for, or is in use.</summary>
    FileState,

    /// <summary>A condition of the request does not hold.</summary>
    FilePrecondition,

    /// <summary>The file is shorter than the range's begin.</summary>
    FileRange,

    /// <summary>The guest's disk is full.</summary>
    DiskFull,

    /// <summary>The guest's kernel answered with another error.</summary>
    FileFailed,

    /// <summary>The guest's agent can do nothing with files, or there is none.</summary>
    FilesUnsupported,

    /// <summary>Too many requests for files of the sandbox are under way.</summary>
    TooManyFileRequests,

    /// <summary>No program in the guest listens on the port.</summary>
    PortClosed,

    /// <summary>The program on the port accepts no connection in time.</summary>
    PortTimeout,

    /// <summary>The guest's agent can do nothing with ports.</summary>
    PortsUnsupported,

    /// <summary>The guest has no SSH server.</summary>
    SshUnsupported,

    /// <summary>Too many connections to ports of the sandbox are open.</summary>
    TooManyConnections,

    /// <summary>The guest lives, but its agent or SSH server does not answer.</summary>
    GuestUnreachable,
}

/// <summary>An error whose message a client may read. Every other exception becomes an internal error.</summary>
public sealed class PandoraException(PandoraError error, string message, string? field = null, Exception? innerException = null)
    : Exception(message, innerException)
{
    /// <summary>The kind.</summary>
    public PandoraError Error { get; } = error;

    /// <summary>Name of the invalid field of the request, in snake_case, or null.</summary>
    public string? Field { get; } = field;

    /// <summary>How the command of this error was stopped; null when that is not known, or when there was no command.</summary>
    public CommandStop? Stop { get; init; }

    /// <summary>The outcome for that command; null when <see cref="Stop"/> is null.</summary>
    public CommandOutcome? Command => Stop?.Outcome;

    /// <summary>
    /// What an operator should know or could do about the error, such as a setting's name, or null. The message is for the client.
    /// </summary>
    public string? Hint { get; init; }

    /// <summary>
    /// Whether the message repeats words that the guest chose, such as a reason of its agent. Front ends that keep the guest's words apart
    /// show them so.
    /// </summary>
    public bool HasGuestWords { get; init; }

    /// <summary>The error for what a guest's agent refuses, in its words.</summary>
    internal static PandoraException OfGuest(PandoraError error, string words, string? field = null) =>
        new(error, words, field) { HasGuestWords = true };

    /// <summary>The error for a guest that does not answer and received nothing of the command.</summary>
    internal static PandoraException NotSent(string message, Exception? innerException = null, bool hasGuestWords = false) =>
        new(PandoraError.GuestUnreachable, $"{message}; nothing of the command was run", innerException: innerException)
        {
            Stop = CommandStop.NotStarted,
            HasGuestWords = hasGuestWords,
        };

    /// <summary>The error for a request with an invalid field.</summary>
    public static PandoraException Invalid(string field, string message, string? hint = null) =>
        new(PandoraError.InvalidRequest, message, field) { Hint = hint };
}

/// <summary>
/// The engine cannot start because of the host or the settings. The message is one sentence for the operator and says what to do.
/// </summary>
public sealed class StartupException(string message, Exception? innerException = null) : Exception(message, innerException);
