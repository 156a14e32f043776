using System.ComponentModel;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Output that a model is not shown.</summary>
internal sealed record Cut(
    long Bytes, [property: Description("Where it begins: process_read's cursor.")] long Cursor,
    [property: Description("Where it ends: process_read's to_cursor.")] long ToCursor);

/// <summary>Output of a process.</summary>
internal sealed record OutputOfGuest(
    [property: Description("Standard output and error as they came; of too much the head and the tail.")] string Output);

/// <summary>A process and a part of its output.</summary>
internal sealed record OutputAnswer
{
    public required string Sandbox { get; init; }

    [Description(Texts.IsNew)]
    public required bool NewSandbox { get; init; }

    [Description(Texts.Process)]
    public required string Process { get; init; }

    [Description("running or ended; unknown when the sandbox does not say.")]
    public required string State { get; init; }

    [Description("Why the answer came: ended, text, silence, output, to_cursor, or time.")]
    public required string Reason { get; init; }

    [Description("Exit code; 128 + n when signal n ended it.")]
    public int? ExitCode { get; init; }

    [Description("Milliseconds that this call took.")]
    public required long ElapsedMs { get; init; }

    [Description("Where the next process_read begins.")]
    public required long Cursor { get; init; }

    [Description("Output that is not shown.")]
    public Cut? Cut { get; init; }

    [Description("Older bytes of output that the sandbox no longer has.")]
    public long? LostBytes { get; init; }

    [Description("Set when not all of stdin was taken yet: how many bytes were. process_input writes the rest.")]
    public long? StdinBytes { get; init; }

    [Description("Set when it does not read its stdin any more: some of it is lost.")]
    public bool? StdinLost { get; init; }

    [Description("Bytes that were no UTF-8, shown as U+FFFD.")]
    public int? InvalidBytes { get; init; }

    [Description("Set when the memory of the sandbox ran out: its bytes.")]
    public long? OomLimit { get; init; }

    [Description("Set when the process ran into its timeout.")]
    public bool? TimedOut { get; init; }

    [Description("With timed_out: killed when nothing of it runs any more; with another word that is not known.")]
    public string? Outcome { get; init; }

    [Description("Set when the disk of the sandbox had I/O errors: data that it wrote may be lost.")]
    public bool? DiskLostData { get; init; }

    [Description(Texts.Guest)]
    public required OutputOfGuest Guest { get; init; }
}
