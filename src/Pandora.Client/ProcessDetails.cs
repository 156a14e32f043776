using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A process in a sandbox as the server showed it at one moment.</summary>
public sealed record ProcessDetails
{
    /// <summary>Its id, <c>^[a-z0-9]{16}$</c>. No other process of the sandbox has it, before or after.</summary>
    public string Id { get; init; } = "";

    /// <summary>Its pid in the guest, which the guest uses again after its end.</summary>
    public int Pid { get; init; }

    /// <summary>The first 256 characters of its code, or of its arguments.</summary>
    public string Command { get; init; } = "";

    /// <summary>When it started, by the guest's clock.</summary>
    public DateTimeOffset StartedAt { get; init; }

    /// <summary><c>running</c> or <c>exited</c>. A later server may have more values.</summary>
    public string State { get; init; } = "running";

    /// <summary>Whether it was started by <c>exec</c>: a living server kills it when its client disconnects.</summary>
    public bool IsForeground { get; init; }

    /// <summary>Whether its sandbox is not idle while it runs.</summary>
    public bool KeepsAlive { get; init; }

    /// <summary>Whether it has an input: a pipe or a terminal.</summary>
    public bool HasInput { get; init; }

    /// <summary>Whether it has a terminal.</summary>
    public bool HasTerminal { get; init; }

    /// <summary>Bytes of input that were accepted for it so far.</summary>
    public long InputOffset { get; init; }

    /// <summary>Offset of the oldest byte of output that is kept. Both outputs have one offset together.</summary>
    public long OutputBegin { get; init; }

    /// <summary>Offset after the last byte of output so far.</summary>
    public long OutputEnd { get; init; }

    /// <summary>The name that its client chose; null for none.</summary>
    public string? Tag { get; init; }

    /// <summary>How it ended; null while it runs.</summary>
    public ProcessResult? Result { get; init; }

    internal static ProcessDetails From(ProcessState state) => new()
    {
        Id = state.ProcessId,
        Pid = state.Pid,
        Command = state.Command,
        StartedAt = state.StartedAt,
        State = state.State,
        IsForeground = state.Foreground,
        KeepsAlive = state.KeepsAlive,
        HasInput = state.Stdin,
        HasTerminal = state.Terminal,
        InputOffset = state.InputOffset,
        OutputBegin = state.OutputBegin,
        OutputEnd = state.OutputEnd,
        Tag = state.Tag,
        Result = ProcessResult.From(state),
    };
}
