using System.ComponentModel.DataAnnotations;
using System.Text.Json.Serialization;

namespace Pandora.Contracts;

/// <summary>Body of <c>POST /sandboxes/{id}/processes</c>: starts a process in the background.</summary>
/// <param name="Code">Shell text, run by bash; at most 1 MiB of UTF-8, without NUL. Either it or <c>args</c> is given.</param>
/// <param name="Args">A program, found by the <c>PATH</c> of its environment, and its arguments, without a shell.</param>
/// <param name="Timeout">Seconds after which the process is killed with what it started: 1 to the longest lifetime of a sandbox. Default:
/// it may run until its sandbox ends.</param>
/// <param name="Cwd">Directory to run in. Default: the user's home.</param>
/// <param name="Env">Environment variables, at most 64 KiB in all.</param>
/// <param name="User">User to run as: a name, or a number. Default: root.</param>
/// <param name="Stdin">True gives it a standard input, which <c>/input</c> writes to; else its input is empty. Default: false. A terminal
/// is an input, too.</param>
/// <param name="Merge">True writes both outputs to <c>stdout</c>, in their order. Default: false.</param>
/// <param name="Terminal">The size of its terminal. Default: it has none.</param>
/// <param name="KeepsAlive">True counts the running process as activity, so that the sandbox is not idle. Default: false.</param>
/// <param name="WaitForReader">True makes the process wait, as at a pipe, while output that nobody has read fills what is kept. False
/// drops the oldest output then, so that the process never waits. Default: false.</param>
/// <param name="Tag">A name of your choice, at most 256 characters.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record StartProcessRequest(
    string? Code = null,
    IReadOnlyList<string>? Args = null,
    [property: Range(Limits.MinExecTimeout, double.MaxValue, ErrorMessage = "must be at least {1} second")] double? Timeout = null,
    [property: StringLength(Limits.MaxCwdLength, ErrorMessage = "must be at most {1} characters")] string? Cwd = null,
    IReadOnlyDictionary<string, string>? Env = null,
    [property: StringLength(Limits.MaxUserLength, ErrorMessage = "must be at most {1} characters")] string? User = null,
    bool? Stdin = null,
    bool? Merge = null,
    TerminalSize? Terminal = null,
    bool? KeepsAlive = null,
    bool? WaitForReader = null,
    [property: StringLength(Limits.MaxTagLength, ErrorMessage = "must be at most {1} characters")] string? Tag = null);

/// <summary>Size of a terminal.</summary>
/// <param name="Columns">Columns, 1 to 65,535.</param>
/// <param name="Rows">Rows, 1 to 65,535.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record TerminalSize(
    [property: Range(1, ushort.MaxValue, ErrorMessage = "must be between {1} and {2}")] int Columns,
    [property: Range(1, ushort.MaxValue, ErrorMessage = "must be between {1} and {2}")] int Rows);

/// <summary>Body of <c>POST /sandboxes/{id}/processes/{process_id}/signal</c>.</summary>
/// <param name="Signal">Name of the signal, such as <c>TERM</c> or <c>SIGTERM</c>, or its number, 1 to 64, as text.</param>
[JsonUnmappedMemberHandling(JsonUnmappedMemberHandling.Disallow)]
public sealed record SignalRequest([property: Required(ErrorMessage = "must be given")] string Signal);

/// <summary>A process in a sandbox.</summary>
/// <param name="ProcessId">Its id, <c>^[a-z0-9]{16}$</c>. No other process of the sandbox has it, before or after.</param>
/// <param name="Pid">Its pid in the guest, which the guest uses again after its end.</param>
/// <param name="Command">The first 256 characters of its code, or of its arguments.</param>
/// <param name="StartedAt">When it started, by the guest's clock.</param>
/// <param name="State"><c>running</c> or <c>exited</c>.</param>
/// <param name="Foreground">Whether <c>exec</c> started it.</param>
/// <param name="KeepsAlive">Whether it counts as activity of the sandbox while it runs.</param>
/// <param name="Stdin">Whether it has an input: a pipe or a terminal.</param>
/// <param name="Terminal">Whether it has a terminal.</param>
/// <param name="InputOffset">Bytes of input that were accepted for it so far.</param>
/// <param name="OutputBegin">Offset of the oldest byte of output that is kept. Both outputs have one offset together.</param>
/// <param name="OutputEnd">Offset after the last byte of output so far.</param>
/// <param name="Tag">The name that its client chose; left out when there is none.</param>
/// <param name="ExitCode">Exit code, 128 + n for signal n; 137 when it was killed at its timeout. Left out while it runs.</param>
/// <param name="TimedOut">True when it was killed at its timeout; else left out.</param>
/// <param name="KillResult">With <c>timed_out</c>, what was found after the kill: <c>killed</c>, <c>unknown</c>, <c>not_started</c> or
/// <c>unreachable</c>.</param>
/// <param name="Oom">True when the guest's memory was full and its kernel killed a process of it; else left out.</param>
/// <param name="MemoryLimitBytes">With <c>oom</c>, the limit that was reached, in bytes; else left out.</param>
/// <param name="HasLeftovers">True when processes that it started live on after its end; else left out.</param>
public sealed record ProcessState(
    string ProcessId, int Pid, string Command, DateTimeOffset StartedAt, string State, bool Foreground, bool KeepsAlive, bool Stdin,
    bool Terminal, long InputOffset, long OutputBegin, long OutputEnd,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? Tag = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] int? ExitCode = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? TimedOut = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? KillResult = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Oom = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? MemoryLimitBytes = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? HasLeftovers = null);

/// <summary>
/// Names of the events of a process's stream (<c>text/event-stream</c>). The id of an event with output is the offset after that output:
/// a client that lost the connection sends the last one as <c>Last-Event-ID</c>.
/// </summary>
public static class ProcessEvents
{
    /// <summary>The stream begins: <see cref="StartedEvent"/>.</summary>
    public const string Started = "started";

    /// <summary>Standard output, and everything that a terminal shows: <see cref="OutputEvent"/>.</summary>
    public const string Stdout = "stdout";

    /// <summary>Standard error: <see cref="OutputEvent"/>.</summary>
    public const string Stderr = "stderr";

    /// <summary>Output is missing: <see cref="DroppedEvent"/>.</summary>
    public const string Dropped = "dropped";

    /// <summary>The process ended: <see cref="ExitedEvent"/>. It is the last event.</summary>
    public const string Exited = "exited";

    /// <summary>There is no more to read now, and the client asked not to wait: <see cref="DroppedEvent"/> without bytes. The last
    /// event.</summary>
    public const string Paused = "paused";

    /// <summary>The stream cannot go on: an <see cref="ApiProblem"/>. It is the last event.</summary>
    public const string Error = "error";

    /// <summary>Nothing happened for a while; the data is <c>{}</c>. It keeps proxies from closing the connection.</summary>
    public const string Heartbeat = "heartbeat";

    /// <summary>Subprotocol of the WebSocket of <c>attach</c>.</summary>
    public const string WebSocketProtocol = "pandora.process.v1";
}

/// <summary>Data of <see cref="ProcessEvents.Started"/>.</summary>
/// <param name="ProcessId">Id of the process.</param>
/// <param name="Pid">Its pid in the guest.</param>
/// <param name="Offset">Offset at which the stream begins.</param>
public sealed record StartedEvent(string ProcessId, int Pid, long Offset);

/// <summary>Data of <see cref="ProcessEvents.Stdout"/> and <see cref="ProcessEvents.Stderr"/>.</summary>
/// <param name="Offset">Offset of the first byte, in both outputs together.</param>
/// <param name="Data">The output: as text, where bytes that are not UTF-8 become U+FFFD, or as base64 if the client asked for it.</param>
/// <param name="Lossy">True when bytes became U+FFFD; else left out.</param>
public sealed record OutputEvent(
    long Offset, string Data, [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Lossy = null);

/// <summary>Data of <see cref="ProcessEvents.Dropped"/> and <see cref="ProcessEvents.Paused"/>.</summary>
/// <param name="From">Offset of the first byte that is missing.</param>
/// <param name="To">Offset after the last byte that is missing.</param>
public sealed record DroppedEvent(long From, long To);

/// <summary>Data of <see cref="ProcessEvents.Exited"/>.</summary>
/// <param name="ExitCode">Exit code, 128 + n for signal n; 137 when it was killed at its timeout.</param>
/// <param name="Offset">Offset after the last byte of output.</param>
/// <param name="ExecMs">For <c>exec</c>, milliseconds from the server's start of the command to its end; else left out.</param>
/// <param name="TimedOut">True when it was killed at its timeout; else left out.</param>
/// <param name="KillResult">With <c>timed_out</c>, what was found after the kill, as in <see cref="ProcessState"/>.</param>
/// <param name="Oom">True when the guest's memory was full and its kernel killed a process of it; else left out.</param>
/// <param name="MemoryLimitBytes">With <c>oom</c>, the limit that was reached, in bytes; else left out.</param>
/// <param name="DiskLostData">True when the sandbox's disk has lost data that the guest had written; else left out.</param>
public sealed record ExitedEvent(
    int ExitCode, long Offset,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] double? ExecMs = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? TimedOut = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] string? KillResult = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? Oom = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] long? MemoryLimitBytes = null,
    [property: JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)] bool? DiskLostData = null);

/// <summary>
/// A text frame of the WebSocket of <c>attach</c>. From the client: <c>resize</c> (columns, rows), <c>signal</c> (signal),
/// <c>end_input</c>. From the server: <c>output</c> (offset, stream: what the next binary frames are, sent first, and where that
/// changes or output is missing), <c>exited</c> (exit), <c>error</c> (problem).
/// </summary>
/// <param name="Type">Which.</param>
/// <param name="Columns">Columns of the terminal.</param>
/// <param name="Rows">Rows of the terminal.</param>
/// <param name="Signal">Name or number of a signal.</param>
/// <param name="Stream"><c>stdout</c> or <c>stderr</c>.</param>
/// <param name="Offset">Offset of the next byte.</param>
/// <param name="Exit">How the process ended.</param>
/// <param name="Problem">Why the connection ends.</param>
public sealed record AttachFrame(
    string Type, int? Columns = null, int? Rows = null, string? Signal = null, string? Stream = null, long? Offset = null,
    ExitedEvent? Exit = null, ApiProblem? Problem = null);
