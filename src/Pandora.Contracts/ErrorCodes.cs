namespace Pandora.Contracts;

/// <summary>One row of <see cref="ErrorCodes"/>: an error that the API answers with.</summary>
/// <param name="Code">Stable name, for programs: <see cref="ApiProblem.Code"/>.</param>
/// <param name="Status">HTTP status.</param>
/// <param name="Title">The status in words: <see cref="ApiProblem.Title"/>.</param>
/// <param name="Kind">What the .NET client makes of it.</param>
/// <param name="Operations">The operations that may answer with it; none where the request reached no operation.</param>
/// <param name="Meaning">What it says, for the API's description and the documentation.</param>
/// <param name="RetryAfterSeconds">Seconds after which a client may try again, sent as <c>Retry-After</c>; null where trying again does not
/// help, or may do the work twice.</param>
public sealed record ErrorCode(
    string Code, int Status, string Title, ErrorKind Kind, ApiOperations Operations, string Meaning, int? RetryAfterSeconds = null);

/// <summary>What the .NET client makes of an error: each kind but <see cref="Other"/> is the exception of its name.</summary>
public enum ErrorKind
{
    /// <summary>A <c>PandoraApiException</c>; its code says which.</summary>
    Other,

    /// <summary>An <c>InvalidRequestException</c>.</summary>
    InvalidRequest,

    /// <summary>A <c>SandboxNotFoundException</c>.</summary>
    SandboxNotFound,

    /// <summary>A <c>SandboxGoneException</c>.</summary>
    SandboxGone,

    /// <summary>A <c>SandboxUnavailableException</c>.</summary>
    SandboxUnavailable,

    /// <summary>An <c>ExecTimeoutException</c>.</summary>
    ExecTimeout,

    /// <summary>An <c>ExecInterruptedException</c>.</summary>
    ExecInterrupted,
}

/// <summary>The operations of the API.</summary>
[Flags]
public enum ApiOperations
{
    /// <summary>None of them.</summary>
    None = 0,

    /// <summary><c>POST /sandboxes</c>.</summary>
    Create = 1,

    /// <summary><c>GET /sandboxes</c>.</summary>
    List = 2,

    /// <summary><c>GET /sandboxes/{id}</c>.</summary>
    Show = 4,

    /// <summary><c>POST /sandboxes/{id}/exec</c>.</summary>
    Exec = 8,

    /// <summary><c>POST /sandboxes/{id}/keepalive</c>.</summary>
    KeepAlive = 16,

    /// <summary><c>DELETE /sandboxes/{id}</c>.</summary>
    Delete = 32,

    /// <summary><c>GET /health</c>.</summary>
    Health = 64,

    /// <summary><c>GET /ready</c>.</summary>
    Ready = 128,

    /// <summary>Those under <c>/sandboxes/{id}/processes</c>.</summary>
    Process = 256,

    /// <summary>Those under <c>/sandboxes/{id}/files</c>.</summary>
    File = 512,

    /// <summary><c>PUT /sandboxes/{id}/egress</c>.</summary>
    Egress = 1024,

    /// <summary>Those under <c>/sandboxes/{id}/ports</c>, and previews.</summary>
    Port = 2048,

    /// <summary><c>/sandboxes/{id}/ssh</c> and <c>/sandboxes/{id}/ssh-keys</c>.</summary>
    Ssh = 4096,

    /// <summary>Those with a body.</summary>
    WithBody = Create | Exec | Process | File | Egress | Port | Ssh,

    /// <summary>Those on one sandbox. A create with an idempotency key is one: the key names a sandbox.</summary>
    OnSandbox = Create | Show | Exec | KeepAlive | Delete | Process | File | Egress | Port | Ssh,

    /// <summary>Those that need a key, where keys are set.</summary>
    WithKey = OnSandbox | List | Health,

    /// <summary>All of them.</summary>
    All = WithKey | Ready,
}

/// <summary>
/// The API's errors: the one table of them. The server's answers, the description of the API, the client's exceptions, the labels of
/// metrics and <c>docs/reference.md</c> are made from it. A code that comes with several statuses has a row for each.
/// </summary>
public static class ErrorCodes
{
    private static readonly List<ErrorCode> Rows = [];

    /// <summary>A field, a parameter or the body is at fault.</summary>
    public static readonly ErrorCode InvalidRequest = Add(new(
        "invalid_request", 400, "Invalid request", ErrorKind.InvalidRequest,
        ApiOperations.WithBody | ApiOperations.List | ApiOperations.Delete,
        "the request is not what the API takes; `errors` names the field, where one is at fault"));

    /// <summary>The body did not come in time.</summary>
    public static readonly ErrorCode BodyTooSlow = Add(new(
        "invalid_request", 408, "Too slow", ErrorKind.InvalidRequest, ApiOperations.WithBody, "the body came too slowly"));

    /// <summary>The body is too large.</summary>
    public static readonly ErrorCode BodyTooLarge = Add(new(
        "invalid_request", 413, "Body too large", ErrorKind.InvalidRequest, ApiOperations.WithBody,
        "the body is larger than any valid request"));

    /// <summary>The body's type or charset is not one that the API reads.</summary>
    public static readonly ErrorCode NotJson = Add(new(
        "invalid_request", 415, "Not JSON", ErrorKind.InvalidRequest, ApiOperations.WithBody,
        "the body is not sent as `application/json`, or in no charset that the server knows"));

    /// <summary>No key was shown, or a wrong one.</summary>
    public static readonly ErrorCode Unauthorized = Add(new(
        "unauthorized", 401, "Key needed", ErrorKind.Other, ApiOperations.WithKey, "no key, or one that the server does not know"));

    /// <summary>An address sent too many wrong keys.</summary>
    public static readonly ErrorCode TooManyAttempts = Add(new(
        "too_many_attempts", 429, "Too many at once", ErrorKind.Other, ApiOperations.WithKey,
        "too many wrong keys came from this address; a key that has worked from there before still works", RetryAfterSeconds: 5));

    /// <summary>The key's role does not include the request.</summary>
    public static readonly ErrorCode Forbidden = Add(new(
        "forbidden", 403, "Forbidden", ErrorKind.Other, ApiOperations.WithKey, "the key's role does not include the request"));

    /// <summary>A page of another origin made a browser ask.</summary>
    public static readonly ErrorCode ForbiddenOrigin = Add(new(
        "forbidden_origin", 403, "Forbidden", ErrorKind.Other, ApiOperations.All, "a browser page of another origin asked"));

    /// <summary>The Host header is wrong.</summary>
    public static readonly ErrorCode HostNotAllowed = Add(new(
        "host_not_allowed", 400, "Invalid request", ErrorKind.Other, ApiOperations.All,
        "the Host header names none of the server's names, or looks like a preview's name and is none; the detail says more"));

    /// <summary>There is no such route.</summary>
    public static readonly ErrorCode NotFound = Add(new(
        "not_found", 404, "Not found", ErrorKind.Other, ApiOperations.None, "there is no such route"));

    /// <summary>The route does not have this method.</summary>
    public static readonly ErrorCode MethodNotAllowed = Add(new(
        "method_not_allowed", 405, "Method not allowed", ErrorKind.Other, ApiOperations.None,
        "the route is there, and not with this method; the header `Allow` lists those it has"));

    /// <summary>There is no such sandbox, or no longer.</summary>
    public static readonly ErrorCode SandboxNotFound = Add(new(
        "sandbox_not_found", 404, "Not found", ErrorKind.SandboxNotFound, ApiOperations.OnSandbox,
        "there is no such sandbox, or it was ended: deleted, idle, too old, or with the server"));

    /// <summary>The sandbox died.</summary>
    public static readonly ErrorCode SandboxGone = Add(new(
        "sandbox_gone", 410, "Gone", ErrorKind.SandboxGone, ApiOperations.OnSandbox,
        "the sandbox's microVM died; of a preview also: the sandbox has ended. The detail says why"));

    /// <summary>There is no such process.</summary>
    public static readonly ErrorCode ProcessNotFound = Add(new(
        "process_not_found", 404, "Not found", ErrorKind.Other, ApiOperations.Process,
        "the sandbox has no such process, or knows it no longer: of those that ended, the last 1,000 are known"));

    /// <summary>The process cannot do that any more, or never could.</summary>
    public static readonly ErrorCode ProcessState = Add(new(
        "process_state", 409, "Not possible", ErrorKind.Other, ApiOperations.Process,
        "the process has ended, has no input or no terminal, or its input is at another offset; the detail says which"));

    /// <summary>There is no such file.</summary>
    public static readonly ErrorCode FileNotFound = Add(new(
        "file_not_found", 404, "Not found", ErrorKind.Other, ApiOperations.File,
        "the guest has no such file or directory, or the user may not look for it"));

    /// <summary>The user may not do it.</summary>
    public static readonly ErrorCode FileAccessDenied = Add(new(
        "file_access_denied", 403, "Forbidden", ErrorKind.Other, ApiOperations.File,
        "the guest's user may not do that to the file, or its filesystem is read-only"));

    /// <summary>There is a file already.</summary>
    public static readonly ErrorCode FileExists = Add(new(
        "file_exists", 409, "Not possible", ErrorKind.Other, ApiOperations.File,
        "a file is there already, or a directory is not empty; nothing was replaced"));

    /// <summary>The file is not of the kind that the request is for.</summary>
    public static readonly ErrorCode FileState = Add(new(
        "file_state", 409, "Not possible", ErrorKind.Other, ApiOperations.File,
        "the file is not of the kind that the request is for, such as a directory where a file is read, or it is in use"));

    /// <summary>A condition of the request does not hold.</summary>
    public static readonly ErrorCode FilePrecondition = Add(new(
        "file_precondition", 412, "Condition not met", ErrorKind.Other, ApiOperations.File,
        "`If-Match` or `If-None-Match` does not hold; nothing was changed"));

    /// <summary>The range lies behind the file's end.</summary>
    public static readonly ErrorCode FileRange = Add(new(
        "file_range", 416, "Range not in the file", ErrorKind.Other, ApiOperations.File,
        "the file is shorter than the range's begin; `Content-Range` says its size"));

    /// <summary>The guest's disk is full.</summary>
    public static readonly ErrorCode DiskFull = Add(new(
        "disk_full", 507, "Disk full", ErrorKind.Other, ApiOperations.File,
        "the guest's disk is full; a file that was to be replaced is as it was"));

    /// <summary>The guest's kernel failed.</summary>
    public static readonly ErrorCode FileFailed = Add(new(
        "file_failed", 409, "Not possible", ErrorKind.Other, ApiOperations.File,
        "the guest's kernel answered with an error that has no code of its own; the detail names it"));

    /// <summary>The guest has no agent.</summary>
    public static readonly ErrorCode FilesUnsupported = Add(new(
        "files_unsupported", 501, "Not supported", ErrorKind.Other, ApiOperations.File,
        "the sandbox's commands run over SSH, or its agent is older than this server: it can do nothing with files"));

    /// <summary>The sandbox's limit of requests for files is reached.</summary>
    public static readonly ErrorCode TooManyFileRequests = Add(new(
        "too_many_file_requests", 429, "Too many at once", ErrorKind.Other, ApiOperations.File,
        "too many requests for files of this sandbox are under way", RetryAfterSeconds: 1));

    /// <summary>No program listens on the port.</summary>
    public static readonly ErrorCode PortClosed = Add(new(
        "port_closed", 502, "Guest unreachable", ErrorKind.Other, ApiOperations.Port,
        "no program in the guest listens on the port"));

    /// <summary>The program behind the port does not speak HTTP, or broke off.</summary>
    public static readonly ErrorCode PortBadAnswer = Add(new(
        "port_bad_answer", 502, "Guest unreachable", ErrorKind.Other, ApiOperations.Port,
        "the program on the port sent something other than HTTP, too many headers, or broke off its answer to a preview"));

    /// <summary>The program behind the port does not answer.</summary>
    public static readonly ErrorCode PortTimeout = Add(new(
        "port_timeout", 504, "Timed out", ErrorKind.Other, ApiOperations.Port,
        "the program on the port accepts no connection within 5 s, or a preview of it had no byte for 10 min"));

    /// <summary>The guest has no agent that can do it.</summary>
    public static readonly ErrorCode PortsUnsupported = Add(new(
        "ports_unsupported", 501, "Not supported", ErrorKind.Other, ApiOperations.Port | ApiOperations.Ssh,
        "the sandbox's agent is older than this server: it can do nothing with ports"));

    /// <summary>The guest has no SSH server.</summary>
    public static readonly ErrorCode SshUnsupported = Add(new(
        "ssh_unsupported", 501, "Not supported", ErrorKind.Other, ApiOperations.Ssh,
        "the guest has no SSH server: it needs the package `openssh-server`"));

    /// <summary>The sandbox's limit of connections is reached.</summary>
    public static readonly ErrorCode TooManyConnections = Add(new(
        "too_many_connections", 429, "Too many at once", ErrorKind.Other, ApiOperations.Port | ApiOperations.Ssh,
        "too many connections to ports of this sandbox are open", RetryAfterSeconds: 1));

    /// <summary>The sandbox's limit of commands is reached.</summary>
    public static readonly ErrorCode TooManyExecs = Add(new(
        "too_many_execs", 429, "Too many at once", ErrorKind.Other, ApiOperations.Exec | ApiOperations.Process,
        "too many commands run in this sandbox at once, or too many clients are attached", RetryAfterSeconds: 5));

    /// <summary>The server's limit of sandboxes is reached.</summary>
    public static readonly ErrorCode SandboxLimit = Add(new(
        "sandbox_limit", 503, "Not available now", ErrorKind.SandboxUnavailable, ApiOperations.Create,
        "the largest allowed number of sandboxes exists", RetryAfterSeconds: 5));

    /// <summary>No microVM was ready in time.</summary>
    public static readonly ErrorCode PoolEmpty = Add(new(
        "pool_empty", 503, "Not available now", ErrorKind.SandboxUnavailable, ApiOperations.Create | ApiOperations.Ready,
        "no microVM became ready in time", RetryAfterSeconds: 5));

    /// <summary>The server stops.</summary>
    public static readonly ErrorCode ShuttingDown = Add(new(
        "shutting_down", 503, "Not available now", ErrorKind.SandboxUnavailable, ApiOperations.WithBody,
        "the server is shutting down", RetryAfterSeconds: 5));

    /// <summary>The server has just started.</summary>
    public static readonly ErrorCode Recovering = Add(new(
        "recovering", 503, "Not available now", ErrorKind.SandboxUnavailable,
        ApiOperations.OnSandbox | ApiOperations.List | ApiOperations.Ready,
        "the server has just started and adopts the sandboxes of the last one", RetryAfterSeconds: 1));

    /// <summary>The server stopped while a command ran.</summary>
    public static readonly ErrorCode Interrupted = Add(new(
        "interrupted", 503, "Not available now", ErrorKind.ExecInterrupted, ApiOperations.Exec,
        "the server stopped while the command ran; it is not repeated, `command` says what became of it, "
        + "and the next server adopts the sandbox"));

    /// <summary>The server's host has no room.</summary>
    public static readonly ErrorCode HostFull = Add(new(
        "host_full", 503, "Not available now", ErrorKind.SandboxUnavailable, ApiOperations.WithBody,
        "the server's host has too little disk, memory or descriptors", RetryAfterSeconds: 5));

    /// <summary>Guests are not isolated as they should be.</summary>
    public static readonly ErrorCode NotProtected = Add(new(
        "not_protected", 503, "Not available now", ErrorKind.SandboxUnavailable,
        ApiOperations.Create | ApiOperations.Ready | ApiOperations.Egress,
        "the rules that isolate guests from the host's networks are incomplete; no sandbox is created until they are repaired. Or what a "
        + "sandbox may reach could not be set: it has egress `none` as soon as its rules can be written",
        RetryAfterSeconds: 5));

    /// <summary>The operator forbids what was asked for.</summary>
    public static readonly ErrorCode EgressForbidden = Add(new(
        "egress_forbidden", 403, "Forbidden", ErrorKind.Other, ApiOperations.Create | ApiOperations.Egress,
        "the request asks for more of the network than the operator allows"));

    /// <summary>The request is above a ceiling of its project.</summary>
    public static readonly ErrorCode AboveCeiling = Add(new(
        "above_ceiling", 403, "Forbidden", ErrorKind.Other, ApiOperations.Create,
        "the request asks for more than its project may have; the detail says what is allowed"));

    /// <summary>A quota of the project is used up.</summary>
    public static readonly ErrorCode QuotaExceeded = Add(new(
        "quota_exceeded", 429, "Too many at once", ErrorKind.SandboxUnavailable, ApiOperations.Create,
        "a quota of the project is used up; the detail says what is used", RetryAfterSeconds: 5));

    /// <summary>The limit of clients that wait is reached.</summary>
    public static readonly ErrorCode Overloaded = Add(new(
        "overloaded", 429, "Too many at once", ErrorKind.SandboxUnavailable, ApiOperations.Create,
        "the largest allowed number of clients waits for a microVM, or microVMs of too many sizes are being started",
        RetryAfterSeconds: 5));

    /// <summary>The idempotency key belongs to another request.</summary>
    public static readonly ErrorCode IdempotencyMismatch = Add(new(
        "idempotency_mismatch", 422, "Key used before", ErrorKind.Other, ApiOperations.Create,
        "the idempotency key was used for a request with another body"));

    /// <summary>The command took too long.</summary>
    public static readonly ErrorCode ExecTimeout = Add(new(
        "exec_timeout", 504, "Timed out", ErrorKind.ExecTimeout, ApiOperations.Exec,
        "the command ran into its timeout; `command` says what became of it"));

    /// <summary>The guest does not answer.</summary>
    public static readonly ErrorCode GuestUnreachable = Add(new(
        "guest_unreachable", 502, "Guest unreachable", ErrorKind.Other, ApiOperations.Exec | ApiOperations.Process | ApiOperations.File
        | ApiOperations.Port | ApiOperations.Ssh,
        "the guest does not answer; `command` says what is known of the command"));

    /// <summary>The server has a defect.</summary>
    public static readonly ErrorCode Internal = Add(new(
        "internal_error", 500, "Server error", ErrorKind.Other, ApiOperations.All, "a defect of the server; its log says which"));

    /// <summary>All rows.</summary>
    public static IReadOnlyList<ErrorCode> All => Rows;

    /// <summary>The first row of a code; null for a code that is none, such as one of a later server.</summary>
    public static ErrorCode? Find(string? code) => Rows.Find(row => row.Code == code);

    private static ErrorCode Add(ErrorCode row)
    {
        Rows.Add(row);
        return row;
    }
}
