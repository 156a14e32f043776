using System.ComponentModel;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Arguments of <c>process_read</c>.</summary>
internal sealed record ProcessReadArguments
{
    [Description(Texts.Process)]
    public required string Process { get; init; }

    [Description("Where to begin: the cursor of the last answer; 0, the beginning, if left out.")]
    public long? Cursor { get; init; }

    [Description("Where to stop, to read output that was cut.")]
    public long? ToCursor { get; init; }

    [Description("Most seconds to wait, 0 to 45; 10 if left out.")]
    public double? Wait { get; init; }

    [Description("Answer as soon as it writes this text.")]
    public string? UntilText { get; init; }

    [Description("Answer when it writes nothing for so many seconds.")]
    public double? UntilSilence { get; init; }

    [Description(Texts.MaxChars)]
    public int? MaxChars { get; init; }
}

/// <summary>Reads a process's output from a cursor on.</summary>
internal sealed class ProcessReadTool() : PandoraTool<ProcessReadArguments, OutputAnswer>(
    "process_read",
    "Read a process",
    "Reads what a process has written since a cursor, and waits for more: until it ends, a text comes, it is silent, or, with neither "
        + "asked for, there is any output.",
    Texts.Does(isReadOnly: true, isIdempotent: true))
{
    private const double UsualWait = 10;

    /// <inheritdoc/>
    protected override async Task<ToolAnswer<OutputAnswer>> CallAsync(ToolCall call, ProcessReadArguments arguments)
    {
        var cursor = arguments.Cursor ?? 0;
        if (cursor < 0)
        {
            throw PandoraException.Invalid("cursor", "must not be negative");
        }

        if (arguments.ToCursor <= cursor)
        {
            throw PandoraException.Invalid("to_cursor", "must be after cursor");
        }

        var until = new ReadUntil
        {
            Deadline = ReadUntil.WaitOf(arguments.Wait ?? UsualWait),
            Text = ReadUntil.TextOf(arguments.UntilText),
            Silence = ReadUntil.SilenceOf(arguments.UntilSilence),
            StopsAtOutput = arguments is { UntilText: null, UntilSilence: null, ToCursor: null },
            To = arguments.ToCursor,
        };
        var window = new OutputWindow(ReadUntil.CharsOf(arguments.MaxChars), cursor);
        var (sandbox, id) = ProcessHandle.Find(call.Sandboxes, arguments.Process);
        await using var process = await sandbox.AttachAsync(id, new ReadFrom(cursor), call.Stop);
        process.Hold();
        if (cursor > process.Facts.OutputEnd)
        {
            var refusal = PandoraException.Invalid(
                "cursor", $"the process has written {process.Facts.OutputEnd} bytes, and it is {cursor}");
            process.Refuse(refusal);
            throw refusal;
        }

        var reason = await new ProcessReading(call, process, window, until).ReadAsync();
        return await ProcessAnswers.OfAsync(call, sandbox, process, window, reason);
    }
}
