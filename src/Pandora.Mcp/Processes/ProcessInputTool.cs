using System.ComponentModel;
using System.Text;
using Pandora.Engine;
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
internal sealed record InputAnswer([property: Description(Texts.Process)] string Process, int Bytes, bool Ended);

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
        if (bytes.Length > 0)
        {
            using var input = new MemoryStream(bytes, writable: false);
            await sandbox.WriteInputAsync(id, input, offset: null, call.Stop);
        }

        if (arguments.End == true)
        {
            await sandbox.EndInputAsync(id, call.Stop);
        }

        return new(
            $"wrote {bytes.Length} bytes to process {arguments.Process}{(arguments.End == true ? ", and ended its input" : "")}",
            new InputAnswer(arguments.Process, bytes.Length, arguments.End == true));
    }
}
