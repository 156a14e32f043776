using System.Collections;
using System.Diagnostics;
using System.Globalization;
using System.Text;
using Pandora.Engine.Telemetry;

namespace Pandora.Engine.Sandboxes;

/// <summary>
/// One operation in the audit: the state of a log entry. The operation fills it in while it runs, and logs it once, at its end.
/// </summary>
/// <remarks>
/// Every logger prints the text and the enumerated members. <see cref="Command"/> is in neither: only a logger that knows this class, the
/// audit's own file, can read it.
/// </remarks>
public sealed class AuditLine : IReadOnlyList<KeyValuePair<string, object?>>
{
    /// <summary>Category of the log entries.</summary>
    public const string Category = "Pandora.Audit";

    /// <summary>Outcome of an operation that was done, whatever the exit code of its command.</summary>
    public const string Ok = "ok";

    /// <summary>Outcome of a command that did not end within its timeout.</summary>
    public const string TimedOut = "timeout";

    internal AuditLine(AuditOperation operation) => Operation = operation;

    /// <summary>The operation.</summary>
    public AuditOperation Operation { get; }

    /// <summary>Id of the sandbox; null when there is none.</summary>
    public string? SandboxId { get; internal set; }

    /// <summary>Project of the sandbox; null when there is no sandbox.</summary>
    public string? Project { get; internal set; }

    /// <summary>Template of the sandbox, at its beginning and its end.</summary>
    public string? Template { get; internal set; }

    /// <summary>Id of the process.</summary>
    public string? ProcessId { get; internal set; }

    /// <summary>The signal.</summary>
    public int? Signal { get; internal set; }

    /// <summary>Bytes that were written to the input, or sent over a connection to the guest.</summary>
    public long? InputBytes { get; internal set; }

    /// <summary>Path of the file; bytes that are not printable ASCII are written as in an address. At most 300 characters.</summary>
    public string? Path { get; internal set; }

    /// <summary>Where a file was moved or copied to, as <see cref="Path"/>.</summary>
    public string? Target { get; internal set; }

    /// <summary>The port.</summary>
    public int? Port { get; internal set; }

    /// <summary>Whether previews of the port need neither key nor link from now on.</summary>
    public bool? IsPublic { get; internal set; }

    /// <summary>Bytes of the file or archive that were read or written, or that came over a connection from the guest.</summary>
    public long? Bytes { get; internal set; }

    /// <summary>What the sandbox's guest may reach from now on.</summary>
    public Egress? Egress { get; internal set; }

    /// <summary>Whether the claim found a warm microVM.</summary>
    public bool? IsWarm { get; internal set; }

    /// <summary>Whether an earlier request with the same idempotency key made the sandbox.</summary>
    public bool? IsReplayed { get; internal set; }

    /// <summary><see cref="Ok"/>, <see cref="TimedOut"/>, or the code of the error.</summary>
    public string Outcome { get; internal set; } = Ok;

    /// <summary>Exit code of the command or process, when its end was seen.</summary>
    public int? ExitCode { get; internal set; }

    /// <summary>Why the sandbox ended.</summary>
    public EndReason? Reason { get; internal set; }

    /// <summary>Number of commands that the server started in the sandbox that ended.</summary>
    public int? ExecCount { get; internal set; }

    /// <summary>How long the sandbox that ended had lived.</summary>
    public TimeSpan? Age { get; internal set; }

    /// <summary>Duration of the operation.</summary>
    public TimeSpan Elapsed { get; internal set; }

    /// <summary>Text of the command; null unless the sandbox's project opts in.</summary>
    public AuditedCommand? Command { get; internal set; }

    /// <summary>
    /// Whether the server did it by itself. Then it belongs to no client, not even to that of a request that waits for it.
    /// </summary>
    public bool IsByServer => Operation == AuditOperation.End;

    /// <inheritdoc/>
    public int Count => Members.Count;

    /// <inheritdoc/>
    public KeyValuePair<string, object?> this[int index] => Members[index];

    /// <summary>Timestamp of the operation's begin.</summary>
    internal long Start { get; } = Stopwatch.GetTimestamp();

    // Name as in other log entries, name in the text, value.
    private IEnumerable<(string Name, string Word, object? Value)> Parts =>
    [
        (nameof(Outcome), "outcome", Outcome),
        (nameof(Project), "project", Project),
        (nameof(Template), "template", Template),
        (nameof(ProcessId), "process", ProcessId),
        (nameof(Path), "path", Path),
        (nameof(Target), "target", Target),
        (nameof(Port), "port", Port),
        ("Public", "public", IsPublic),
        (nameof(Bytes), "bytes", Bytes),
        ("Warm", "warm", IsWarm),
        ("Replayed", "replayed", IsReplayed),
        (nameof(Signal), "signal", Signal),
        (nameof(InputBytes), "input_bytes", InputBytes),
        (nameof(Egress), "egress", Egress is { } egress ? Label.Of(egress) : null),
        (nameof(ExitCode), "exit_code", ExitCode),
        (nameof(Reason), "reason", Reason is { } reason ? Label.Of(reason) : null),
        ("Execs", "execs", ExecCount),
        ("Seconds", "lived_s", Age?.TotalSeconds),
        ("Milliseconds", "ms", Elapsed.TotalMilliseconds),
    ];

    private List<KeyValuePair<string, object?>> Members =>
    [
        new(nameof(Operation), Label.Of(Operation)),
        new(nameof(SandboxId), SandboxId ?? "-"),
        .. Parts.Where(p => p.Value is not null).Select(p => new KeyValuePair<string, object?>(p.Name, p.Value)),
    ];

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, object?>> GetEnumerator() => Members.GetEnumerator();

    /// <summary>The text of the log entry, such as <c>exec 4id… outcome=ok project=default exit_code=0 ms=1.2</c>.</summary>
    public override string ToString()
    {
        var text = new StringBuilder(Label.Of(Operation)).Append(' ').Append(SandboxId ?? "-");
        foreach (var (_, word, value) in Parts.Where(p => p.Value is not null))
        {
            text.Append(CultureInfo.InvariantCulture, $" {word}=");
            _ = value is double number
                ? text.Append(CultureInfo.InvariantCulture, $"{number:0.###}")
                : text.Append(CultureInfo.InvariantCulture, $"{value}");
        }

        return text.ToString();
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}
