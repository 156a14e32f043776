
namespace Pandora.Engine;

/// <summary>What went wrong, for the one place that turns it into an answer.</summary>
public enum PandoraError
{
    /// <summary>The request is at fault; <see cref="PandoraException.Field"/> says where.</summary>
    InvalidRequest,

    /// <summary>No such sandbox, or it was deleted or reaped.</summary>
    SandboxNotFound,

    /// <summary>The sandbox's microVM is gone.</summary>
    SandboxGone,

    /// <summary>Too many commands run in the sandbox at once.</summary>
    TooManyExecs,

    /// <summary>As many sandboxes exist as may.</summary>
    SandboxLimit,

    /// <summary>No microVM became ready in time.</summary>
    PoolEmpty,

    /// <summary>The server is shutting down.</summary>
    ShuttingDown,

    /// <summary>The server takes over what an earlier one left, and is not done.</summary>
    Recovering,

    /// <summary>
    /// The server stopped while a command ran, which is not repeated; <see cref="PandoraException.Command"/> says what became of it.
    /// </summary>
    Interrupted,

    /// <summary>The host has no room left: of disk, memory or descriptors.</summary>
    HostFull,

    /// <summary>As many clients wait for a microVM as may.</summary>
    Overloaded,

    /// <summary>A client's idempotency key was used for another request.</summary>
    IdempotencyMismatch,

    /// <summary>What keeps guests in is not whole, so no microVM is handed out.</summary>
    NotProtected,

    /// <summary>The request asks for more of the network than the operator allows.</summary>
    EgressForbidden,

    /// <summary>The guest lives, but its SSH server does not answer.</summary>
    GuestUnreachable,
}

/// <summary>An error whose message may reach a client. Every other exception becomes an internal error.</summary>
public sealed class PandoraException(PandoraError error, string message, string? field = null, Exception? innerException = null)
    : Exception(message, innerException)
{
    /// <summary>The kind.</summary>
    public PandoraError Error { get; } = error;

    /// <summary>Name of the request's field that is at fault, in snake_case, or null.</summary>
    public string? Field { get; } = field;

    /// <summary>How the command was stopped that the error is about; null when nothing is known of it, or there was none.</summary>
    public CommandStop? Stop { get; init; }

    /// <summary>What became of that command; null as <see cref="Stop"/> is.</summary>
    public CommandOutcome? Command => Stop?.Outcome;

    /// <summary>
    /// What an operator could do about it, or should know, such as a setting's name; null for nothing. The message is for the client.
    /// </summary>
    public string? Hint { get; init; }

    /// <summary>A guest that does not answer, and got nothing of the command.</summary>
    internal static PandoraException NotSent(string message, Exception? innerException = null) =>
        new(PandoraError.GuestUnreachable, $"{message}; nothing of the command was run", innerException: innerException)
        {
            Stop = CommandStop.NotStarted,
        };

    /// <summary>A request whose field is at fault.</summary>
    public static PandoraException Invalid(string field, string message, string? hint = null) =>
        new(PandoraError.InvalidRequest, message, field) { Hint = hint };
}

/// <summary>
/// The host or the settings do not let the engine start; the message is one sentence for the operator and says what to do.
/// </summary>
public sealed class StartupException(string message, Exception? innerException = null) : Exception(message, innerException);
