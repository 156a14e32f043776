namespace Pandora.Contracts;

/// <summary>An error of the API: problem details (RFC 9457) with a stable <see cref="Code"/>.</summary>
/// <param name="Title">Short, the same for every problem of a kind.</param>
/// <param name="Status">HTTP status.</param>
/// <param name="Detail">What happened to this client, and what it can do.</param>
/// <param name="Code">Stable, for programs: see <see cref="ProblemCodes"/>.</param>
/// <param name="Errors">For bad input: each field at fault and what is wrong with it.</param>
/// <param name="Stdout">For a command that timed out: its output so far.</param>
/// <param name="Stderr">For a command that timed out: its error output so far.</param>
/// <param name="Command">What is known of a command that did not end by itself: see <see cref="CommandStates"/>.</param>
/// <param name="Hint">What the server's operator could do, or should know; left out where there is nothing.</param>
public sealed record ApiProblem(
    string? Title = null, int? Status = null, string? Detail = null, string? Code = null,
    IReadOnlyDictionary<string, string[]>? Errors = null, string? Stdout = null, string? Stderr = null, string? Command = null,
    string? Hint = null);

/// <summary>The values of <see cref="ApiProblem.Command"/>. What a guest says of itself its root can forge.</summary>
public static class CommandStates
{
    /// <summary>It was killed, and looked up afterwards: its shell has ended, its cgroup is empty, and no process bears its mark.</summary>
    public const string Killed = "killed";

    /// <summary>It was to be killed, and the guest does not confirm that all of it is gone: it may run on.</summary>
    public const string Unknown = "unknown";

    /// <summary>Nothing of it was run.</summary>
    public const string NotStarted = "not_started";

    /// <summary>The guest did not answer when it was to be killed: it may run on.</summary>
    public const string Unreachable = "unreachable";
}

/// <summary>The values of <see cref="ApiProblem.Code"/>.</summary>
public static class ProblemCodes
{
    /// <summary>400, 413, 415: the request is not what the API takes; <c>errors</c> names the fields.</summary>
    public const string InvalidRequest = "invalid_request";

    /// <summary>401: no key, or one the server does not know.</summary>
    public const string Unauthorized = "unauthorized";

    /// <summary>403: a browser page of another origin asked.</summary>
    public const string ForbiddenOrigin = "forbidden_origin";

    /// <summary>404: no such route.</summary>
    public const string NotFound = "not_found";

    /// <summary>405: the route is there, and not with this method; the header <c>Allow</c> lists those it has.</summary>
    public const string MethodNotAllowed = "method_not_allowed";

    /// <summary>400: the Host header names none of the server's names; the detail lists them.</summary>
    public const string HostNotAllowed = "host_not_allowed";

    /// <summary>404: no such sandbox, or it was deleted or reaped.</summary>
    public const string SandboxNotFound = "sandbox_not_found";

    /// <summary>410: the sandbox's microVM is gone; the detail says why.</summary>
    public const string SandboxGone = "sandbox_gone";

    /// <summary>429: too many commands run in this sandbox at once.</summary>
    public const string TooManyExecs = "too_many_execs";

    /// <summary>503: as many sandboxes exist as may. Claims that wait are not counted.</summary>
    public const string SandboxLimit = "sandbox_limit";

    /// <summary>503: no microVM became ready in time.</summary>
    public const string PoolEmpty = "pool_empty";

    /// <summary>503: the server is shutting down.</summary>
    public const string ShuttingDown = "shutting_down";

    /// <summary>503: the server has just started and takes over what the last one left.</summary>
    public const string Recovering = "recovering";

    /// <summary>
    /// 503: the server stopped while the command ran. It is not repeated; <c>command</c> says what became of it, and the sandbox is left
    /// to the next server.
    /// </summary>
    public const string Interrupted = "interrupted";

    /// <summary>503: the server's host has no room left, of disk, memory or descriptors.</summary>
    public const string HostFull = "host_full";

    /// <summary>503: what keeps guests from the host's networks is not whole, so no sandbox is handed out until it is.</summary>
    public const string NotProtected = "not_protected";

    /// <summary>403: the request asks for more of the network than the operator allows.</summary>
    public const string EgressForbidden = "egress_forbidden";

    /// <summary>429: as many clients wait for a microVM as may.</summary>
    public const string Overloaded = "overloaded";

    /// <summary>422: the idempotency key was used for a request with another body.</summary>
    public const string IdempotencyMismatch = "idempotency_mismatch";

    /// <summary>504: the command ran into its timeout; <c>command</c> says what became of it.</summary>
    public const string ExecTimeout = "exec_timeout";

    /// <summary>502: the guest's SSH server does not answer; <c>command</c> says what is known of the command.</summary>
    public const string GuestUnreachable = "guest_unreachable";

    /// <summary>500: a defect of the server.</summary>
    public const string Internal = "internal_error";
}
