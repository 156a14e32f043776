using System.Diagnostics.CodeAnalysis;
using System.Runtime.CompilerServices;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// A process in a sandbox. It lives on when this object is lost. Members are virtual, so that a test can replace them. After a broken
/// connection, reading, waiting and writing go on where they were, for <see cref="PandoraClientOptions.MaxReconnectTime"/>.
/// </summary>
public class SandboxProcess
{
    private readonly PandoraApi? _api;
    private readonly string _sandboxId = "";
    private readonly ProcessInput? _input;

    internal SandboxProcess(PandoraApi api, string sandboxId, string id)
    {
        (_api, _sandboxId, Id) = (api, sandboxId, id);
        _input = new ProcessInput(api, sandboxId, id);
    }

    /// <summary>For a class of a test that replaces members. The others throw <see cref="NotSupportedException"/>.</summary>
    /// <param name="id">Id of the process.</param>
    protected SandboxProcess(string id) => Id = id;

    /// <summary>Id of the process: another program finds it by this.</summary>
    public string Id { get; }

    private PandoraApi Api => _api ?? throw NoClient();

    private ProcessInput Input => _input ?? throw NoClient();

    /// <summary>Shows the process's state.</summary>
    /// <exception cref="PandoraApiException">The server does not know the process any more: code <c>process_not_found</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<ProcessDetails> GetAsync(CancellationToken cancellationToken = default) =>
        ProcessDetails.From(await Api.GetProcessAsync(_sandboxId, Id, cancellationToken).ConfigureAwait(false));

    /// <summary>Waits for the end of the process, as long as that takes. Any exit code is a result, not an exception.</summary>
    /// <param name="cancellationToken">Ends the wait, and not the process.</param>
    /// <inheritdoc cref="GetAsync" path="/exception"/>
    public virtual async Task<ProcessResult> WaitAsync(CancellationToken cancellationToken = default)
    {
        while (true)
        {
            var state = await new Reconnection(Api)
                .RepeatAsync(() => Api.WaitForProcessAsync(_sandboxId, Id, cancellationToken), cancellationToken).ConfigureAwait(false);
            if (ProcessResult.From(state) is { } result)
            {
                return result;
            }
        }
    }

    /// <summary>
    /// Reads the output, each byte once. The enumeration ends with the process. Output that is not kept any more comes as
    /// <see cref="ProcessOutputKind.Dropped"/>. Any number of readers may read at once.
    /// </summary>
    /// <param name="from">Offset of the first byte, such as a <see cref="ProcessOutput.EndOffset"/>; -1 for what comes from now on.</param>
    /// <param name="follow">False ends the enumeration where the output ends now.</param>
    /// <param name="cancellationToken">Ends the reading, and not the process.</param>
    /// <inheritdoc cref="GetAsync" path="/exception"/>
    public virtual async IAsyncEnumerable<ProcessOutput> ReadOutputAsync(
        long from = 0, bool follow = true, [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(from, -1);
        var stream = new ProcessStream(Api, _sandboxId, Id, from, follow);
        await foreach (var next in stream.ReadAsync(first: null, cancellationToken).ConfigureAwait(false))
        {
            if (next.Output is { } output)
            {
                yield return output;
            }
        }
    }

    /// <summary>
    /// Writes bytes to the input, and returns when the process's pipe has taken them. Calls on one object are carried out one after
    /// another. Two programs must not write to one process at the same time: bytes of one would be left out.
    /// </summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="cancellationToken">Ends the wait; a part may have been written.</param>
    /// <exception cref="PandoraApiException">The process has ended, or has no input: code <c>process_state</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "Bytes and a stream cannot be taken for one another")]
    public virtual Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken = default) =>
        Input.WriteAsync(bytes, cancellationToken);

    /// <summary>
    /// Writes a stream of any length to the input as it comes, up to its end. The input stays open:
    /// <see cref="CompleteInputAsync"/> ends it.
    /// </summary>
    /// <param name="source">The stream. It is read on while bytes are on their way, so after an exception some that were read may not have
    /// been written.</param>
    /// <param name="cancellationToken">Ends the writing; a part may have been written.</param>
    /// <inheritdoc cref="WriteInputAsync(ReadOnlyMemory{byte}, CancellationToken)" path="/exception"/>
    [SuppressMessage("ApiDesign", "RS0026", Justification = "Bytes and a stream cannot be taken for one another")]
    public virtual Task WriteInputAsync(Stream source, CancellationToken cancellationToken = default)
    {
        ArgumentNullException.ThrowIfNull(source);
        return Input.WriteAsync(source, cancellationToken);
    }

    /// <summary>Ends the input: the process reads its end.</summary>
    /// <inheritdoc cref="WriteInputAsync(ReadOnlyMemory{byte}, CancellationToken)" path="/exception"/>
    public virtual Task CompleteInputAsync(CancellationToken cancellationToken = default) =>
        Api.EndProcessInputAsync(_sandboxId, Id, cancellationToken);

    /// <summary>Sends a signal to the process and its group.</summary>
    /// <param name="signal">Name of the signal, such as <c>TERM</c> or <c>SIGTERM</c>, or its number, 1 to 64, as text.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="InvalidRequestException">There is no such signal.</exception>
    /// <exception cref="PandoraApiException">The process has ended: code <c>process_state</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task SignalAsync(string signal, CancellationToken cancellationToken = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(signal);
        return Api.SignalProcessAsync(_sandboxId, Id, signal, cancellationToken);
    }

    /// <summary>Sets the size of the process's terminal.</summary>
    /// <param name="size">The size.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraApiException">The process has ended, or has no terminal: code <c>process_state</c>.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task ResizeAsync(TerminalDimensions size, CancellationToken cancellationToken = default) =>
        Api.ResizeProcessAsync(_sandboxId, Id, new TerminalSize(size.Columns, size.Rows), cancellationToken);

    private static NotSupportedException NoClient() => new("this process has no client: replace the member in your test");
}
