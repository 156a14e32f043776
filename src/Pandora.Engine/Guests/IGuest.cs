using Pandora.Engine.Guests.Files;
using Pandora.Engine.Guests.Ports;

namespace Pandora.Engine.Guests;

/// <summary>The connection to one running guest. Disposing it closes the connection and does not change the guest.</summary>
public interface IGuest : IAsyncDisposable
{
    /// <summary>How its processes are reached.</summary>
    ExecWay Way { get; }

    /// <summary>Starts a process. Many may run at the same time.</summary>
    /// <param name="spec">What to start.</param>
    /// <param name="cancellationToken">Ends the wait for the start; a process that may have started is killed.</param>
    /// <exception cref="PandoraException">The guest does not answer, or the request names a directory, a user or a program that the guest
    /// does not have.</exception>
    /// <exception cref="OperationCanceledException">Cancelled. A <see cref="CommandStoppedException"/> says what became of the process; any
    /// other type means that nothing was started.</exception>
    Task<IGuestProcess> StartAsync(ProcessSpec spec, CancellationToken cancellationToken);

    /// <summary>Continues with a process that was started before.</summary>
    /// <param name="id">Id of the process.</param>
    /// <param name="from">First output to be read.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">The guest does not know the process, or does not answer.</exception>
    Task<IGuestProcess> AttachAsync(string id, ReadFrom from, CancellationToken cancellationToken);

    /// <summary>Lists the processes that were started, running or ended, in the order in which they were started.</summary>
    /// <exception cref="PandoraException">The guest does not answer.</exception>
    Task<IReadOnlyList<ProcessInfo>> ListAsync(CancellationToken cancellationToken);

    /// <summary>Shows one process.</summary>
    /// <exception cref="PandoraException">The guest does not know the process, or does not answer.</exception>
    Task<ProcessInfo> GetAsync(string id, CancellationToken cancellationToken);

    /// <summary>Begins a request for files. Many may be under way at the same time.</summary>
    /// <param name="spec">What is asked for.</param>
    /// <param name="cancellationToken">Ends the wait until the guest can be asked.</param>
    /// <exception cref="PandoraException">The guest's agent can do nothing with files, or cannot be asked.</exception>
    Task<IGuestFiles> OpenFilesAsync(FileSpec spec, CancellationToken cancellationToken);

    /// <summary>Lists the TCP ports on which programs in the guest listen, one for each address.</summary>
    /// <exception cref="PandoraException">The guest's agent can do nothing with ports, or does not answer.</exception>
    Task<IReadOnlyList<GuestPort>> ListPortsAsync(CancellationToken cancellationToken);

    /// <summary>Connects to a port, from inside the guest: to 127.0.0.1, ::1, or another of the guest's own addresses.</summary>
    /// <param name="port">The port: 1 to 65,535.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">No program listens, the guest serves too many connections, or its agent does not
    /// answer.</exception>
    Task<GuestStream> ConnectAsync(int port, CancellationToken cancellationToken);

    /// <summary>Starts the guest's SSH server for one connection.</summary>
    /// <param name="keys">The public keys that may log in, lines of <c>authorized_keys</c> without options.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraException">The guest has no SSH server, serves too many connections, or its agent does not
    /// answer.</exception>
    Task<GuestStream> OpenSshAsync(IReadOnlyList<string> keys, CancellationToken cancellationToken);

    /// <summary>Makes sure that nothing is under way to or from the guest, and that nothing will be: it is to be saved.</summary>
    /// <exception cref="InvalidOperationException">A process is being read.</exception>
    Task QuiesceAsync(CancellationToken cancellationToken);
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

    /// <summary>User to run as, a name or a number; root when null.</summary>
    public string? User { get; init; }

    /// <summary>Standard input.</summary>
    public ReadOnlyMemory<byte> Stdin { get; init; }

    /// <summary>Whether both outputs go to standard output, in their order.</summary>
    public bool Merge { get; init; }

    /// <summary>Most bytes kept of each output.</summary>
    public int OutputLimit { get; init; } = 10 * 1024 * 1024;

    /// <summary>The process that runs it.</summary>
    public ProcessSpec ToSpec() => new()
    {
        Code = Code,
        Environment = Env,
        Directory = Cwd,
        User = User,
        HasInput = !Stdin.IsEmpty,
        IsMerged = Merge,
        TimeLimit = Timeout,
        WaitsForReader = true,
        IsForeground = true,
    };
}

/// <summary>The result of a command.</summary>
/// <param name="ExitCode">Exit code, 128 + n for a signal; 137 when the server stopped the command.</param>
/// <param name="Stdout">Standard output.</param>
/// <param name="Stderr">Standard error.</param>
/// <param name="Stopped">What became of the command at its timeout; null when it ended by itself.</param>
/// <param name="OomLimit">The limit in bytes at which the guest's kernel killed a process of the command; null when it killed none.</param>
public sealed record GuestResult(
    int ExitCode, GuestOutput Stdout, GuestOutput Stderr, CommandStop? Stopped = null, long? OomLimit = null)
{
    /// <summary>Whether an output was longer than the limit.</summary>
    public bool IsTruncated => Stdout.IsTruncated || Stderr.IsTruncated;
}
