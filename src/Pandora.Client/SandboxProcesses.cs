using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The processes of a sandbox. Members are virtual, so that a test can replace them.</summary>
/// <example>
/// <code>
/// var server = await sandbox.Processes.StartAsync("python3 -m http.server", new ProcessOptions { KeepsAlive = true });
/// await foreach (var output in server.ReadOutputAsync())
/// {
///     Console.Write(Encoding.UTF8.GetString(output.Bytes.Span));
/// }
/// </code>
/// </example>
public class SandboxProcesses
{
    private static readonly TerminalDimensions UsualTerminal = new(80, 24);
    private readonly PandoraApi? _api;
    private readonly string _sandboxId = "";

    internal SandboxProcesses(PandoraApi api, string sandboxId) => (_api, _sandboxId) = (api, sandboxId);

    /// <summary>For a class of a test that replaces members. The others throw <see cref="NotSupportedException"/>.</summary>
    protected SandboxProcesses()
    {
    }

    private PandoraApi Api => _api ?? throw new NotSupportedException("these processes have no client: replace the member in your test");

    /// <summary>
    /// Starts shell text in bash, in the background: it runs until it exits, is killed, or its sandbox ends, also without this program. A
    /// start whose answer was lost is not repeated; <see cref="ProcessOptions.Tag"/> finds the process.
    /// </summary>
    /// <param name="code">Shell text, at most <see cref="Limits.MaxCodeBytes"/> as UTF-8.</param>
    /// <param name="options">How to start it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait; the process may have been started.</param>
    /// <exception cref="InvalidRequestException">An option is out of its range.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task<SandboxProcess> StartAsync(
        string code, ProcessOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(code);
        return StartAsync((options ?? new()).ToRequest() with { Code = code }, cancellationToken);
    }

    /// <summary>Starts a program without a shell, likewise.</summary>
    /// <param name="arguments">The program, found by the <c>PATH</c> of its environment, and its arguments; at most
    /// <see cref="Limits.MaxArguments"/>.</param>
    /// <param name="options">How to start it; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait; the process may have been started.</param>
    /// <inheritdoc cref="StartAsync(string, ProcessOptions, CancellationToken)" path="/exception"/>
    public virtual Task<SandboxProcess> StartProgramAsync(
        IReadOnlyList<string> arguments, ProcessOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(arguments);
        return StartAsync((options ?? new()).ToRequest() with { Args = arguments }, cancellationToken);
    }

    /// <summary>Starts shell text in a terminal of its own, such as <c>bash -l</c>, and attaches to it.</summary>
    /// <param name="code">Shell text, at most <see cref="Limits.MaxCodeBytes"/> as UTF-8.</param>
    /// <param name="options">How to start it. Without <see cref="ProcessOptions.Terminal"/> the terminal has 80 columns and 24
    /// rows.</param>
    /// <param name="cancellationToken">Ends the wait; the process may have been started.</param>
    /// <inheritdoc cref="StartAsync(string, ProcessOptions, CancellationToken)" path="/exception"/>
    public virtual async Task<SandboxTerminal> OpenTerminalAsync(
        string code, ProcessOptions? options = null, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(code);
        var request = (options ?? new()).ToRequest();
        request = request with
        {
            Code = code,
            Terminal = request.Terminal ?? new TerminalSize(UsualTerminal.Columns, UsualTerminal.Rows),
        };
        var process = await StartAsync(request, cancellationToken).ConfigureAwait(false);
        return new SandboxTerminal(Api, _sandboxId, process, from: 0);
    }

    /// <summary>Attaches to the terminal of a process that runs. Several programs may attach to one terminal.</summary>
    /// <param name="id">Id of the process.</param>
    /// <param name="from">Offset of the first byte of output to read; -1 for what comes from now on.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <inheritdoc cref="AttachAsync" path="/exception"/>
    public virtual async Task<SandboxTerminal> AttachTerminalAsync(
        string id, long from = 0, CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(from, -1);
        return new SandboxTerminal(Api, _sandboxId, await AttachAsync(id, cancellationToken).ConfigureAwait(false), from);
    }

    /// <summary>Returns a process that is known by its id, after asking the server for it.</summary>
    /// <param name="id">Id of the process.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraApiException">There is no such process: code <c>process_not_found</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SandboxProcess> AttachAsync(string id, CancellationToken cancellationToken = default)
    {
        var state = await GetAsync(id, cancellationToken).ConfigureAwait(false);
        return new SandboxProcess(Api, _sandboxId, state.Id);
    }

    /// <summary>Lists the processes, running and ended, oldest first; also those that <c>ExecAsync</c> started. The last 1,000 that ended
    /// are known.</summary>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<IReadOnlyList<ProcessDetails>> ListAsync(CancellationToken cancellationToken = default) =>
        [.. (await Api.ListProcessesAsync(_sandboxId, cancellationToken).ConfigureAwait(false)).Select(ProcessDetails.From)];

    /// <summary>Shows one process.</summary>
    /// <inheritdoc cref="AttachAsync" path="/param"/>
    /// <inheritdoc cref="AttachAsync" path="/exception"/>
    public virtual async Task<ProcessDetails> GetAsync(string id, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        return ProcessDetails.From(await Api.GetProcessAsync(_sandboxId, id, cancellationToken).ConfigureAwait(false));
    }

    private async Task<SandboxProcess> StartAsync(StartProcessRequest request, CancellationToken cancellationToken)
    {
        var state = await Api.StartProcessAsync(_sandboxId, request, cancellationToken).ConfigureAwait(false);
        return new SandboxProcess(Api, _sandboxId, state.ProcessId);
    }
}
