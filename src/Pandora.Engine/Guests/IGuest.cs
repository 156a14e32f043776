namespace Pandora.Engine.Guests;

/// <summary>The way into one running guest. Disposing it closes the way and leaves the guest as it is.</summary>
public interface IGuest : IAsyncDisposable
{
    /// <summary>
    /// Runs code in the guest's bash and returns when that bash has exited, or was stopped for its time. Any number may run at once.
    /// </summary>
    /// <param name="command">What to run.</param>
    /// <param name="cancellationToken">Stops the command as its timeout does.</param>
    /// <exception cref="PandoraException">The guest does not answer, or the request names a directory or user that it does not
    /// have.</exception>
    /// <exception cref="OperationCanceledException">Cancelled; a <see cref="CommandStoppedException"/> says what became of the command,
    /// and any other that nothing was sent to the guest.</exception>
    Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken);
}

/// <summary>A command for a guest.</summary>
public sealed record GuestCommand
{
    /// <summary>Shell text without NUL.</summary>
    public required string Code { get; init; }

    /// <summary>Time after which it is killed with what it started.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Directory to run in; the user's home when null.</summary>
    public string? Cwd { get; init; }

    /// <summary>Environment variables besides the usual ones.</summary>
    public IReadOnlyDictionary<string, string> Env { get; init; } = new Dictionary<string, string>();

    /// <summary>User to run as; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Standard input; empty when null.</summary>
    public string? Stdin { get; init; }

    /// <summary>Most bytes kept of each output.</summary>
    public int OutputLimit { get; init; } = 10 * 1024 * 1024;
}

/// <summary>What came of a command.</summary>
/// <param name="ExitCode">Exit code, 128 + n for a signal; 137 when it was stopped.</param>
/// <param name="Stdout">Standard output.</param>
/// <param name="Stderr">Standard error.</param>
/// <param name="Stopped">How it was stopped for its time; null when it ended by itself.</param>
public sealed record GuestResult(int ExitCode, GuestOutput Stdout, GuestOutput Stderr, CommandStop? Stopped = null)
{
    /// <summary>Whether an output was longer than is kept.</summary>
    public bool IsTruncated => Stdout.IsTruncated || Stderr.IsTruncated;
}
