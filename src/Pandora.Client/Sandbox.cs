using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>A sandbox in this program's hands. Disposing it ends it on the server.</summary>
public sealed class Sandbox : IAsyncDisposable
{
    private readonly PandoraClient _client;
    private int _ended;

    internal Sandbox(PandoraClient client, SandboxCreated created)
    {
        _client = client;
        Created = created;
    }

    /// <summary>Its id.</summary>
    public string Id => Created.SandboxId;

    /// <summary>Milliseconds that the server took to claim it.</summary>
    public double AcquireMs => Created.AcquireMs;

    /// <summary>Whether a microVM was warm, so that nothing had to be waited for.</summary>
    public bool IsWarm => Created.Warm;

    /// <summary>All that the server told at its creation.</summary>
    public SandboxCreated Created { get; }

    /// <summary>Runs shell text in bash. An exit code other than 0 is a result, not an exception.</summary>
    /// <param name="code">Shell text of at most <see cref="Limits.MaxCodeBytes"/>.</param>
    /// <param name="timeout">From <see cref="Limits.MinExecTimeout"/> to <see cref="Limits.MaxExecTimeout"/> seconds; null is
    /// <see cref="Limits.DefaultExecTimeout"/>.</param>
    /// <param name="cwd">Directory; null is the user's home.</param>
    /// <param name="env">Environment variables of at most <see cref="Limits.MaxEnvBytes"/>.</param>
    /// <param name="user">User; null is root.</param>
    /// <param name="stdin">Standard input of at most <see cref="Limits.MaxStdinBytes"/>; null is empty.</param>
    /// <param name="cancellationToken">Gives up: the server kills the command.</param>
    /// <exception cref="ExecTimeoutException">It ran into its timeout; the output so far, and what became of it, are in the
    /// exception.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox was ended, by a delete or for idleness.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    public Task<ExecResult> ExecAsync(
        string code,
        TimeSpan? timeout = null,
        string? cwd = null,
        IReadOnlyDictionary<string, string>? env = null,
        string? user = null,
        string? stdin = null,
        CancellationToken cancellationToken = default
    ) => _client.ExecAsync(Id, new ExecRequest(code, timeout?.TotalSeconds, cwd, env, user, stdin), cancellationToken);

    /// <summary>Starts its idle clock again.</summary>
    public Task<SandboxInfo> KeepAliveAsync(CancellationToken cancellationToken = default) => _client.KeepAliveAsync(Id, cancellationToken);

    /// <summary>Ends it and tells what was undone on the host.</summary>
    /// <exception cref="SandboxNotFoundException">It has ended already.</exception>
    public Task<Receipt> EndAsync(CancellationToken cancellationToken = default)
    {
        Interlocked.Exchange(ref _ended, 1);
        return _client.DeleteWithReceiptAsync(Id, cancellationToken);
    }

    /// <summary>Ends it. One that has ended already is no error.</summary>
    public async ValueTask DisposeAsync()
    {
        if (Interlocked.Exchange(ref _ended, 1) == 1)
        {
            return;
        }

        try
        {
            await _client.DeleteAsync(Id);
        }
        catch (PandoraApiException e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            // Reaped or dead: gone is gone.
        }
    }
}

/// <summary>What came of a command.</summary>
/// <param name="Response">The server's answer.</param>
public sealed record ExecResult(ExecResponse Response)
{
    /// <summary>Exit code; 128 + n for signal n.</summary>
    public int ExitCode => Response.ExitCode;

    /// <summary>Standard output.</summary>
    public string Stdout => Response.Stdout;

    /// <summary>Standard error.</summary>
    public string Stderr => Response.Stderr;

    /// <summary>Milliseconds from the server's start of the command to its end.</summary>
    public double ExecMs => Response.ExecMs;

    /// <summary>Whether an output was longer than the <see cref="Limits.MaxOutputBytes"/> that are kept.</summary>
    public bool IsTruncated => Response.Truncated == true;
}
