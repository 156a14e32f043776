using Pandora.Engine;

namespace Pandora.E2b.Connect;

/// <summary>Codes of the Connect protocol (connectrpc.com, "Error codes").</summary>
internal enum ConnectCode
{
    /// <summary>The request is invalid.</summary>
    InvalidArgument,

    /// <summary>The time that the client gave is over.</summary>
    DeadlineExceeded,

    /// <summary>What is asked for does not exist.</summary>
    NotFound,

    /// <summary>What is to be made exists.</summary>
    AlreadyExists,

    /// <summary>The caller may not do that.</summary>
    PermissionDenied,

    /// <summary>A limit is reached.</summary>
    ResourceExhausted,

    /// <summary>The state does not allow it.</summary>
    FailedPrecondition,

    /// <summary>The server cannot do that.</summary>
    Unimplemented,

    /// <summary>The server failed.</summary>
    Internal,

    /// <summary>The sandbox has ended: clients show this as the sandbox's timeout.</summary>
    Unavailable,

    /// <summary>The caller is not known.</summary>
    Unauthenticated,
}

/// <summary>An error with which a call ends.</summary>
internal sealed class ConnectException(ConnectCode code, string message) : Exception(message)
{
    /// <summary>Its code.</summary>
    public ConnectCode Code => code;

    /// <summary>The HTTP status of a call that is answered at once.</summary>
    public int Status => code switch
    {
        ConnectCode.InvalidArgument or ConnectCode.FailedPrecondition => 400,
        ConnectCode.DeadlineExceeded => 504,
        ConnectCode.NotFound => 404,
        ConnectCode.AlreadyExists => 409,
        ConnectCode.PermissionDenied => 403,
        ConnectCode.ResourceExhausted => 429,
        ConnectCode.Unimplemented => 501,
        ConnectCode.Internal => 500,
        ConnectCode.Unavailable => 503,
        ConnectCode.Unauthenticated => 401,
    };

    /// <summary>The error as a message.</summary>
    public ConnectError ToMessage() => new(System.Text.Json.JsonNamingPolicy.SnakeCaseLower.ConvertName($"{code}"), Message);

    /// <summary>The error of a call for one of the engine's.</summary>
    public static ConnectException Of(PandoraException exception) => new(
        exception.Error switch
        {
            PandoraError.InvalidRequest when exception.Field == "user" => ConnectCode.Unauthenticated,
            PandoraError.InvalidRequest or PandoraError.FileState => ConnectCode.InvalidArgument,
            PandoraError.FileNotFound or PandoraError.ProcessNotFound or PandoraError.ProcessState => ConnectCode.NotFound,
            PandoraError.FileAccessDenied => ConnectCode.PermissionDenied,
            PandoraError.FileExists => ConnectCode.AlreadyExists,
            PandoraError.DiskFull or PandoraError.TooManyExecs or PandoraError.TooManyFileRequests => ConnectCode.ResourceExhausted,
            PandoraError.SandboxNotFound or PandoraError.SandboxGone => ConnectCode.Unavailable,
            _ => ConnectCode.Internal,
        },
        exception.Field is null ? exception.Message : $"{exception.Field}: {exception.Message}");
}
