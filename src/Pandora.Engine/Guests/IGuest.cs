namespace Pandora.Engine.Guests;

/// <summary>The connection to one running guest. Disposing it closes the connection and does not change the guest.</summary>
public interface IGuest : IAsyncDisposable
{
    /// <summary>
    /// Runs code in the guest's bash. Returns when that bash has exited, or was killed at its timeout. Commands may run at the same time.
    /// </summary>
    /// <param name="command">The command.</param>
    /// <param name="cancellationToken">Stops the command as its timeout does.</param>
    /// <exception cref="PandoraException">The guest does not answer, or the request names a directory or user that the guest does not
    /// have.</exception>
    /// <exception cref="OperationCanceledException">Cancelled. A <see cref="CommandStoppedException"/> says what became of the command; any
    /// other type means that nothing was sent to the guest.</exception>
    Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken);
}

/// <summary>A command for a guest.</summary>
public sealed record GuestCommand
{
    /// <summary>Shell text without NUL.</summary>
    public required string Code { get; init; }

    /// <summary>Time after which the command and every process that it started are killed.</summary>
    public TimeSpan Timeout { get; init; } = TimeSpan.FromSeconds(30);

    /// <summary>Directory to run in; the user's home when null.</summary>
    public string? Cwd { get; init; }

    /// <summary>Environment variables in addition to the usual ones.</summary>
    public IReadOnlyDictionary<string, string> Env { get; init; } = new Dictionary<string, string>();

    /// <summary>User to run as; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Standard input; empty when null.</summary>
    public string? Stdin { get; init; }

    /// <summary>Most bytes kept of each output.</summary>
    public int OutputLimit { get; init; } = 10 * 1024 * 1024;
}

/// <summary>The result of a command.</summary>
/// <param name="ExitCode">Exit code, 128 + n for a signal; 137 when the server stopped the command.</param>
/// <param name="Stdout">Standard output.</param>
/// <param name="Stderr">Standard error.</param>
/// <param name="Stopped">What became of the command at its timeout; null when it ended by itself.</param>
public sealed record GuestResult(int ExitCode, GuestOutput Stdout, GuestOutput Stderr, CommandStop? Stopped = null)
{
    /// <summary>Whether an output was longer than the limit.</summary>
    public bool IsTruncated => Stdout.IsTruncated || Stderr.IsTruncated;
}
