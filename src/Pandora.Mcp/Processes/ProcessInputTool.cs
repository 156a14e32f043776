using System.ComponentModel;
using System.Text;
using Pandora.Engine;
using Pandora.Engine.Sandboxes;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Arguments of <c>process_input</c>.</summary>
internal sealed record ProcessInputArguments
{
    [Description(Texts.Process)]
    public required string Process { get; init; }

    [Description("Text to write; a line needs its line break.")]
    public string? Text { get; init; }

    [Description("Whether the input ends then.")]
    public bool? End { get; init; }
}

/// <summary>What was written.</summary>
internal sealed record InputAnswer(
    [property: Description(Texts.Process)] string Process, [property: Description("Bytes that were taken.")] long Bytes,
    [property: Description("Whether the input has ended.")] bool Ended);

/// <summary>Writes to a process's standard input.</summary>
internal sealed class ProcessInputTool() : PandoraTool<ProcessInputArguments, InputAnswer>(
    "process_input",
    "Write to a process",
    "Writes text to the standard input of a process that process_start started with input.",
    Texts.Does(isDestructive: true))
{
    /// <inheritdoc/>
    protected override async Task<ToolAnswer<InputAnswer>> CallAsync(ToolCall call, ProcessInputArguments arguments)
    {
        if (arguments is { Text: null or "", End: not true })
        {
            throw PandoraException.Invalid("text", "must be given, unless the input is to end");
        }

        var (sandbox, id) = ProcessHandle.Find(call.Sandboxes, arguments.Process);
        var bytes = Encoding.UTF8.GetBytes(arguments.Text ?? "");
        if (bytes.Length > 0 && await WriteAsync(call, sandbox, id, bytes) is { } taken)
        {
            return new(
                $"wrote {taken} of {bytes.Length} bytes to process {arguments.Process}, which does not read the rest now; its input is "
                    + "still open",
                new InputAnswer(arguments.Process, taken, Ended: false));
        }

        if (arguments.End == true)
        {
            await sandbox.EndInputAsync(id, call.Stop);
        }

        return new(
            $"wrote {bytes.Length} bytes to process {arguments.Process}{(arguments.End == true ? ", and ended its input" : "")}",
            new InputAnswer(arguments.Process, bytes.Length, arguments.End == true));
    }

    // Writes all, or returns how many bytes were taken when the time was over: who repeats them would write them twice.
    private static async Task<long?> WriteAsync(ToolCall call, Sandbox sandbox, string id, byte[] bytes)
    {
        var before = (await sandbox.GetProcessAsync(id, call.Stop)).Facts.InputOffset;
        var left = ReadUntil.WaitOf(ReadUntil.LongestWait) - call.Elapsed;
        using var limit = new CancellationTokenSource(left > TimeSpan.Zero ? left : TimeSpan.Zero, call.Time);
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(call.Stop, limit.Token);
        using var input = new MemoryStream(bytes, writable: false);
        try
        {
            await sandbox.WriteInputAsync(id, input, offset: null, stop.Token);
            return null;
        }
        catch (OperationCanceledException) when (limit.IsCancellationRequested && !call.Stop.IsCancellationRequested)
        {
            return Math.Min((await sandbox.GetProcessAsync(id, call.Stop)).Facts.InputOffset - before, bytes.Length);
        }
    }
}
