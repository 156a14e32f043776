namespace Pandora.Engine.Guest;

/// <summary>The way into one running guest. Disposing it closes the way and leaves the guest as it is.</summary>
public interface IGuest : IAsyncDisposable
{
    /// <summary>Runs code in the guest's bash and returns when that bash has exited, or was killed for its time. Any number may run at once.</summary>
    /// <param name="command">What to run.</param>
    /// <param name="cancellationToken">Kills all that the command started.</param>
    /// <exception cref="PandoraException">The guest does not answer, or the request names a directory or user that it does not have.</exception>
    Task<GuestResult> ExecAsync(GuestCommand command, CancellationToken cancellationToken);
}

/// <summary>A command for a guest.</summary>
public sealed record GuestCommand
{
    /// <summary>Shell text without NUL.</summary>
    public required string Code { get; init; }

    /// <summary>Time after which all that it started is killed.</summary>
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
/// <param name="ExitCode">Exit code, 128 + n for a signal; 137 when it was killed for its time.</param>
/// <param name="Stdout">Standard output.</param>
/// <param name="Stderr">Standard error.</param>
/// <param name="IsTruncated">Whether either was longer than is kept.</param>
/// <param name="IsTimedOut">Whether it ran into its timeout and was killed.</param>
public sealed record GuestResult(int ExitCode, string Stdout, string Stderr, bool IsTruncated, bool IsTimedOut);
