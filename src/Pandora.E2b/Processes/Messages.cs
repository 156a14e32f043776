namespace Pandora.E2b.Processes;

/// <summary>A program, its arguments and its surroundings.</summary>
internal sealed record ProcessConfig(
    string? Cmd = null, string[]? Args = null, Dictionary<string, string>? Envs = null, string? Cwd = null);

/// <summary>The size of a terminal.</summary>
internal sealed record PtySize(int Cols = 0, int Rows = 0);

/// <summary>A terminal.</summary>
internal sealed record Pty(PtySize? Size = null);

/// <summary>A request to start a process.</summary>
internal sealed record StartProcess(ProcessConfig? Process = null, Pty? Pty = null, string? Tag = null, bool? Stdin = null);

/// <summary>Names a process: by its pid, or by the name that its client chose.</summary>
internal sealed record ProcessSelector(int? Pid = null, string? Tag = null);

/// <summary>A request about a process.</summary>
internal sealed record SelectProcess(ProcessSelector? Process = null);

/// <summary>Bytes for a process's input or terminal.</summary>
internal sealed record ProcessInput(byte[]? Stdin = null, byte[]? Pty = null);

/// <summary>A request to write to a process.</summary>
internal sealed record SendInput(ProcessSelector? Process = null, ProcessInput? Input = null);

/// <summary>A request to send a signal.</summary>
internal sealed record SendSignal(ProcessSelector? Process = null, string? Signal = null);

/// <summary>A request to set the size of a terminal.</summary>
internal sealed record ResizeProcess(ProcessSelector? Process = null, Pty? Pty = null);

/// <summary>The first event of a process.</summary>
internal sealed record StartEvent(int Pid);

/// <summary>Output of a process.</summary>
internal sealed record DataEvent(byte[]? Stdout = null, byte[]? Stderr = null, byte[]? Pty = null)
{
    /// <summary>Offset after these bytes in all output of the process; only for clients that read from an offset.</summary>
    public long? Offset { get; init; }
}

/// <summary>The end of a process.</summary>
internal sealed record EndEvent(int ExitCode, bool Exited, string Status, string? Error = null);

/// <summary>What happened to a process: one of the members is given.</summary>
internal sealed record ProcessEvent(StartEvent? Start = null, DataEvent? Data = null, EndEvent? End = null)
{
    /// <summary>Nothing happened for a while.</summary>
    public Connect.Empty? Keepalive { get; init; }
}

/// <summary>A message of the stream of a process.</summary>
internal sealed record ProcessEventMessage(ProcessEvent Event);

/// <summary>A process that runs.</summary>
internal sealed record RunningProcess(ProcessConfig Config, int Pid, string? Tag);

/// <summary>The processes that run.</summary>
internal sealed record ProcessList(RunningProcess[] Processes);
