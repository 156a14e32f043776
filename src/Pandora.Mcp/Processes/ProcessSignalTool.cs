using System.ComponentModel;
using Pandora.Engine.Guests;
using Pandora.Mcp.Tools;

namespace Pandora.Mcp.Processes;

/// <summary>Arguments of <c>process_signal</c>.</summary>
internal sealed record ProcessSignalArguments
{
    [Description(Texts.Process)]
    public required string Process { get; init; }

    [Description("Name of the signal, such as INT or KILL; TERM if left out.")]
    public string? Signal { get; init; }
}

/// <summary>A signal that was sent.</summary>
internal sealed record SignalAnswer([property: Description(Texts.Process)] string Process, string Signal);

/// <summary>Sends a signal to a process and its group.</summary>
internal sealed class ProcessSignalTool() : PandoraTool<ProcessSignalArguments, SignalAnswer>(
    "process_signal",
    "Signal a process",
    "Sends a signal to a process and its group: TERM asks it to end, KILL ends it.",
    Texts.Does(isDestructive: true))
{
    /// <inheritdoc/>
    protected override async Task<ToolAnswer<SignalAnswer>> CallAsync(ToolCall call, ProcessSignalArguments arguments)
    {
        var name = arguments.Signal ?? "TERM";
        var signal = SignalNames.Parse(name);
        var (sandbox, id) = ProcessHandle.Find(call.Sandboxes, arguments.Process);
        await sandbox.SignalProcessAsync(id, signal, call.Stop);
        return new($"sent signal {signal} to process {arguments.Process}", new SignalAnswer(arguments.Process, name));
    }
}
