namespace Pandora.Engine.Guests;

/// <summary>What to start in a guest.</summary>
public sealed record ProcessSpec
{
    /// <summary>Shell text for bash, without NUL; null when <see cref="Arguments"/> are given.</summary>
    public string? Code { get; init; }

    /// <summary>A program, found by the PATH of its environment, and its arguments.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];

    /// <summary>Environment variables in addition to the usual ones.</summary>
    public IReadOnlyDictionary<string, string> Environment { get; init; } = new Dictionary<string, string>();

    /// <summary>Directory to start in; null for the user's home, or <c>/</c> when there is none.</summary>
    public string? Directory { get; init; }

    /// <summary>Name or number of the user; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Whether the process has standard input; else its input is empty.</summary>
    public bool HasInput { get; init; }

    /// <summary>Whether standard error goes where standard output goes.</summary>
    public bool IsMerged { get; init; }

    /// <summary>Columns and rows of its terminal, 1 to 65,535 each; null for none.</summary>
    public (int Columns, int Rows)? Terminal { get; init; }

    /// <summary>Time after which it is killed with all that it started; null for no limit.</summary>
    public TimeSpan? TimeLimit { get; init; }

    /// <summary>Whether it waits for a slow reader, as at a pipe; else it never waits, and its oldest output is dropped.</summary>
    public bool WaitsForReader { get; init; }

    /// <summary>Whether it waits as with <see cref="WaitsForReader"/> while a client reads it. Without one it never waits, and its oldest
    /// output is dropped.</summary>
    public bool WaitsWhileRead { get; init; }

    /// <summary>
    /// Whether a client waits for it: then its time limit is the server's, and a server that adopts the guest kills it, unless a client
    /// attaches.
    /// </summary>
    public bool IsForeground { get; init; }

    /// <summary>Whether nobody reads it again: what was read is not kept, and the guest forgets it at its end.</summary>
    public bool IsReadOnce { get; init; }

    /// <summary>Whether it is an activity of its sandbox while it runs.</summary>
    public bool KeepsAlive { get; init; }

    /// <summary>A name that the client chose, at most 256 characters; null for none.</summary>
    public string? Tag { get; init; }
}

/// <summary>Where to begin to read a process's output.</summary>
/// <param name="Offset">The offset, at least 0; otherwise one of the other members.</param>
public readonly record struct ReadFrom(long Offset)
{
    /// <summary>What comes from now on.</summary>
    public static readonly ReadFrom Now = new(-1);

    /// <summary>No output: the process does not wait for this reader.</summary>
    public static readonly ReadFrom Nothing = new(-2);
}

/// <summary>What a process has, and how far it is.</summary>
/// <param name="HasInput">Whether it has an input: a pipe or a terminal.</param>
/// <param name="HasTerminal">Whether it has a terminal.</param>
/// <param name="IsForeground">Whether a client waits for it.</param>
/// <param name="KeepsAlive">Whether it is an activity of its sandbox while it runs.</param>
/// <param name="OutputBegin">Offset of the oldest output that is kept.</param>
/// <param name="OutputEnd">Offset after the newest output.</param>
/// <param name="InputOffset">Bytes of input that were accepted for it.</param>
public readonly record struct ProcessFacts(
    bool HasInput, bool HasTerminal, bool IsForeground, bool KeepsAlive, long OutputBegin, long OutputEnd, long InputOffset);

/// <summary>A process in a guest. Disposing it stops reading; it does not end the process.</summary>
public interface IGuestProcess : IAsyncDisposable
{
    /// <summary>Its id, which no other process of the guest has or will have.</summary>
    string Id { get; }

    /// <summary>Its pid in the guest, which the guest uses again after its end.</summary>
    int Pid { get; }

    /// <summary>What it had when it was started or attached to.</summary>
    ProcessFacts Facts { get; }

    /// <summary>Reads the next output. One caller at a time may read; the output is valid until the next call.</summary>
    /// <returns>Null at the end of the process, when <see cref="End"/> is set.</returns>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    ValueTask<ProcessOutput?> ReadAsync(CancellationToken cancellationToken);

    /// <summary>How it ended; null before <see cref="ReadAsync"/> has returned null.</summary>
    ProcessEnd? End { get; }

    /// <summary>
    /// Writes to standard input, and waits while the process does not read. One caller at a time may write, while another reads: how much
    /// the process has taken is learnt by <see cref="ReadAsync"/>.
    /// </summary>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken);

    /// <summary>Whether the process does not read its input any more, so that some of what was written is lost.</summary>
    bool IsInputLost { get; }

    /// <summary>Waits until the process's pipe or terminal has taken all that was written. <see cref="ReadAsync"/> learns that.</summary>
    /// <returns>False when the process has ended before, or does not read any more.</returns>
    Task<bool> WaitForInputAsync(CancellationToken cancellationToken);

    /// <summary>Ends standard input.</summary>
    /// <returns>Whether it was done: false when the process had ended. The task ends when <see cref="ReadAsync"/> has learnt it.</returns>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    Task<bool> EndInputAsync(CancellationToken cancellationToken);

    /// <summary>Sends a signal, 1 to 64, to the process and its group.</summary>
    /// <returns>As <see cref="EndInputAsync"/>.</returns>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    Task<bool> SignalAsync(int signal, CancellationToken cancellationToken);

    /// <summary>Sets the size of its terminal.</summary>
    /// <returns>As <see cref="EndInputAsync"/>; false also without a terminal.</returns>
    /// <exception cref="PandoraException">The guest does not answer any more.</exception>
    Task<bool> ResizeAsync(int columns, int rows, CancellationToken cancellationToken);

    /// <summary>Kills the process and all that it started, and reads what is left of its output without keeping it.</summary>
    /// <returns>What is known about it afterwards. It does not throw, and takes a few seconds at most.</returns>
    Task<CommandStop> KillAsync();
}

/// <summary>A piece of output.</summary>
/// <param name="Stream">Which output.</param>
/// <param name="Offset">Offset of its first byte in all output of the process. A gap to the last piece was dropped.</param>
/// <param name="Bytes">The bytes.</param>
public readonly record struct ProcessOutput(OutputStream Stream, long Offset, ReadOnlyMemory<byte> Bytes);

/// <summary>An output of a process.</summary>
public enum OutputStream
{
    /// <summary>Standard output, and everything that a terminal shows.</summary>
    Stdout = 1,

    /// <summary>Standard error.</summary>
    Stderr = 2,
}

/// <summary>How a process ended.</summary>
/// <param name="ExitCode">Exit code, 128 + n for signal n; 137 when it was stopped.</param>
public sealed record ProcessEnd(int ExitCode)
{
    /// <summary>What became of it when its time was over; null when it ended by itself.</summary>
    public CommandStop? Stopped { get; init; }

    /// <summary>When the guest's memory killer killed one of its processes: the memory limit in bytes; else null.</summary>
    public long? OomLimit { get; init; }

    /// <summary>Whether processes that it started live on.</summary>
    public bool HasLeftovers { get; init; }

    /// <summary>Offset after its last output, read or dropped; null when it is not known.</summary>
    public long? Offset { get; init; }
}

/// <summary>A process that a guest knows.</summary>
/// <param name="Id">Its id.</param>
/// <param name="Pid">Its pid.</param>
/// <param name="Tag">The client's name for it; null for none.</param>
/// <param name="Command">The beginning of its code, or its arguments.</param>
/// <param name="StartedAt">When it started, by the guest's clock.</param>
/// <param name="Facts">What it has, and how far it is.</param>
/// <param name="End">Its end; null while it runs.</param>
public sealed record ProcessInfo(
    string Id, int Pid, string? Tag, string Command, DateTimeOffset StartedAt, ProcessFacts Facts, ProcessEnd? End);
