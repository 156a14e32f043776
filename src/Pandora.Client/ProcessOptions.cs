using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>How a process is started. Everything may be left out.</summary>
public sealed class ProcessOptions
{
    /// <summary>
    /// Time after which the process is killed with what it started: at least <see cref="Limits.MinExecTimeout"/> seconds, at most
    /// <see cref="ServerHealth.MaxTimeout"/>. Default: it may run until its sandbox ends.
    /// </summary>
    public TimeSpan? Timeout { get; set; }

    /// <summary>Directory to run in. Default: the user's home.</summary>
    public string? WorkingDirectory { get; set; }

    /// <summary>Environment variables to add, at most <see cref="Limits.MaxEnvBytes"/> in all.</summary>
    public IReadOnlyDictionary<string, string>? Environment { get; set; }

    /// <summary>User to run as: a name, or a number such as <c>1000</c>. Default: root.</summary>
    public string? User { get; set; }

    /// <summary>
    /// Whether it has a standard input, which <see cref="SandboxProcess.WriteInputAsync(ReadOnlyMemory{byte}, CancellationToken)"/> writes
    /// to. Default: false, its input is empty. A terminal is an input, too.
    /// </summary>
    public bool HasInput { get; set; }

    /// <summary>Whether both outputs go to standard output, in the order in which the process wrote them. Default: false.</summary>
    public bool MergeOutputs { get; set; }

    /// <summary>Size of its terminal. Default: it has none.</summary>
    public TerminalDimensions? Terminal { get; set; }

    /// <summary>Whether its sandbox is not idle while it runs. Default: false.</summary>
    public bool KeepsAlive { get; set; }

    /// <summary>
    /// Whether it waits, as at a pipe, while nobody reads and the output that is kept is full. Default: false, the oldest output is
    /// dropped.
    /// </summary>
    public bool WaitsForReader { get; set; }

    /// <summary>A name to find it by, at most <see cref="Limits.MaxTagLength"/> characters. Default: none.</summary>
    public string? Tag { get; set; }

    internal StartProcessRequest ToRequest() => new(
        Timeout: Timeout?.TotalSeconds,
        Cwd: WorkingDirectory,
        Env: Environment,
        User: User,
        Stdin: HasInput ? true : null,
        Merge: MergeOutputs ? true : null,
        Terminal: Terminal is { } size ? new TerminalSize(size.Columns, size.Rows) : null,
        KeepsAlive: KeepsAlive ? true : null,
        WaitForReader: WaitsForReader ? true : null,
        Tag: Tag);
}

/// <summary>Size of a terminal.</summary>
/// <param name="Columns">Columns, 1 to 65,535.</param>
/// <param name="Rows">Rows, 1 to 65,535.</param>
public readonly record struct TerminalDimensions(int Columns, int Rows);
