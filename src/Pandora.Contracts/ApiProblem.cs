namespace Pandora.Contracts;

/// <summary>An error of the API: problem details (RFC 9457) with a stable <see cref="Code"/>.</summary>
/// <param name="Title">Short, the same for every problem of a kind.</param>
/// <param name="Status">HTTP status.</param>
/// <param name="Detail">What happened to this client, and what it can do.</param>
/// <param name="Code">Stable, for programs: see <see cref="ErrorCodes"/>.</param>
/// <param name="Errors">For bad input: each field at fault and what is wrong with it.</param>
/// <param name="Stdout">For a command that timed out: its output so far, written as in an <see cref="ExecResponse"/>.</param>
/// <param name="Stderr">For a command that timed out: its error output so far.</param>
/// <param name="Command">What is known of a command that did not end by itself: see <see cref="CommandStates"/>.</param>
/// <param name="Hint">What the server's operator could do, or should know; left out where there is nothing.</param>
/// <param name="Truncated">For a command that timed out: as in an <see cref="ExecResponse"/>, and so are the members after it.</param>
/// <param name="Lossy">Whether bytes of an output were not UTF-8 and became U+FFFD.</param>
/// <param name="Oom">Whether the guest's memory was full and its kernel killed a process of the command.</param>
/// <param name="MemoryLimitBytes">The limit that was reached, in bytes.</param>
/// <param name="DiskLostData">Whether the sandbox's disk has lost data that the guest had written.</param>
public sealed record ApiProblem(
    string? Title = null, int? Status = null, string? Detail = null, string? Code = null,
    IReadOnlyDictionary<string, string[]>? Errors = null, string? Stdout = null, string? Stderr = null, string? Command = null,
    string? Hint = null, bool? Truncated = null, bool? Lossy = null, bool? Oom = null, long? MemoryLimitBytes = null,
    bool? DiskLostData = null);

/// <summary>The values of <see cref="ApiProblem.Command"/>. What a guest says of itself its root can forge.</summary>
public static class CommandStates
{
    /// <summary>It was killed, and that was checked: its shell has ended, its cgroup is empty, and no process bears its mark.</summary>
    public const string Killed = "killed";

    /// <summary>It was to be killed, and the guest does not confirm that all of it is gone: it may run on.</summary>
    public const string Unknown = "unknown";

    /// <summary>Nothing of it was run.</summary>
    public const string NotStarted = "not_started";

    /// <summary>The guest did not answer when it was to be killed: it may run on.</summary>
    public const string Unreachable = "unreachable";
}
