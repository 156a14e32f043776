using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// A sandbox. One that <see cref="PandoraClient.CreateAsync(CreateSandboxOptions, CancellationToken)"/> returned is kept alive by the
/// client and ended by <see cref="DisposeAsync"/>, unless it was detached before. Members are virtual, so that a test can replace them.
/// </summary>
public partial class Sandbox : IAsyncDisposable
{
    private static readonly TimeSpan DisposeLimit = TimeSpan.FromSeconds(60);
    private readonly PandoraApi? _api;
    private readonly SandboxCreated? _created;
    private SandboxKeepAlive? _keepAlive;
    private bool _isOwned;

    internal Sandbox(PandoraApi api, SandboxCreated created, bool keepAlive)
    {
        (_api, _created, _isOwned, Id) = (api, created, true, created.SandboxId);
        if (keepAlive)
        {
            _keepAlive = SandboxKeepAlive.Start(this, api.Time, WireTime.Seconds(created.IdleTimeout));
        }
    }

    internal Sandbox(PandoraApi api, string id) => (_api, Id) = (api, id);

    /// <summary>For a class of a test that replaces members.</summary>
    /// <param name="id">Id of the sandbox.</param>
    protected Sandbox(string id) => Id = id;

    /// <summary>Id of the sandbox.</summary>
    public string Id { get; }

    /// <summary>Time that the server took to provide the sandbox; null after <see cref="PandoraClient.Connect"/>.</summary>
    public TimeSpan? AcquireTime => _created is null ? null : WireTime.Milliseconds(_created.AcquireMs);

    /// <summary>
    /// Whether a microVM was ready, so that nothing had to be waited for; null after <see cref="PandoraClient.Connect"/>.
    /// </summary>
    public bool? IsWarm => _created?.Warm;

    /// <summary>
    /// How the microVM started: <c>snapshot</c> or <c>boot</c>. A size other than the template's boots, which takes longer, until the
    /// server has a snapshot of that size. Null after <see cref="PandoraClient.Connect"/>, and when the server does not say.
    /// </summary>
    public string? Start => _created?.Start;

    /// <summary>Idle time after which the server ends the sandbox; null after <see cref="PandoraClient.Connect"/>.</summary>
    public TimeSpan? IdleTimeout => _created is null ? null : WireTime.Seconds(_created.IdleTimeout);

    /// <summary>The server's answer to the creation; null after <see cref="PandoraClient.Connect"/>.</summary>
    internal SandboxCreated? Wire => _created;

    /// <summary>The API on the wire.</summary>
    internal PandoraApi Api => _api ?? throw new NotSupportedException("this sandbox has no client: replace the member in your test");

    /// <summary>Its processes: commands that run in the background, that are fed, signalled and found again.</summary>
    public virtual SandboxProcesses Processes => new(Api, Id);

    /// <summary>Its files: read, written, listed and watched, and whole directories brought in and taken out.</summary>
    public virtual SandboxFiles Files => new(Api, Id);

    /// <summary>Its ports: what listens in it is listed, connected to, and shown in browsers.</summary>
    public virtual SandboxPorts Ports => new(Api, Id);

    /// <summary>Its SSH server, and the keys that may log in.</summary>
    public virtual SandboxSsh Ssh => new(Api, Id);

    /// <summary>
    /// Runs shell text in bash and waits for its end. An exit code other than 0 is a result, not an exception. With
    /// <see cref="ExecOptions.OnStdout"/>, <see cref="ExecOptions.OnStderr"/> or <see cref="ExecOptions.OnOutput"/> the output is handed on
    /// as it comes, and the client reads on after a broken connection, for
    /// <see cref="PandoraClientOptions.MaxReconnectTime"/>: the server may have died and left the command running.
    /// </summary>
    /// <param name="code">Shell text, at most <see cref="Limits.MaxCodeBytes"/> as UTF-8.</param>
    /// <param name="options">How to run it; null is the default.</param>
    /// <param name="cancellationToken">Ends the request; the server then kills the command.</param>
    /// <exception cref="ExecTimeoutException">The command reached its timeout; the exception has its output so far.</exception>
    /// <exception cref="ExecInterruptedException">The server stopped, or the connection broke, meanwhile, and the command was killed or its
    /// end is not known.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="InvalidRequestException">An option is out of its range.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<ExecResult> ExecAsync(
        string code, ExecOptions? options = null, CancellationToken cancellationToken = default)
    {
        var request = ExecOptions.ToRequest(code, options);
        if (options is { IsStreamed: true })
        {
            return await StreamAsync(request, options, cancellationToken).ConfigureAwait(false);
        }

        return ExecResult.From(await Api.ExecAsync(Id, request, cancellationToken).ConfigureAwait(false), request);
    }

    /// <summary>Shows the sandbox's state.</summary>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SandboxDetails> GetAsync(CancellationToken cancellationToken = default) =>
        SandboxDetails.From(await Api.GetAsync(Id, cancellationToken).ConfigureAwait(false));

    /// <summary>Restarts the sandbox's idle time, once.</summary>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SandboxDetails> KeepAliveAsync(CancellationToken cancellationToken = default) =>
        SandboxDetails.From(await Api.KeepAliveAsync(Id, cancellationToken).ConfigureAwait(false));

    /// <summary>
    /// Sets what the sandbox may reach from now on, within what the server and the project allow. With <c>none</c>, connections that are
    /// open are cut: install with <c>internet</c>, then run code that you do not trust with <c>none</c>. It may be repeated.
    /// </summary>
    /// <param name="egress"><c>internet</c> or <c>none</c>.</param>
    /// <param name="cancellationToken">Ends the request. The server may have done it.</param>
    /// <exception cref="PandoraApiException">The server or the project allows no more than <c>none</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="InvalidRequestException">The value is neither of the two.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SandboxDetails> SetEgressAsync(string egress, CancellationToken cancellationToken = default) =>
        SandboxDetails.From(await Api.SetEgressAsync(Id, new EgressRequest(egress), cancellationToken).ConfigureAwait(false));

    /// <summary>Ends the sandbox and returns what was cleaned up on the host.</summary>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended already.</exception>
    /// <exception cref="PandoraClientException">The request failed; the sandbox ends by its idle timeout, or by another call.</exception>
    public virtual async Task<SandboxReceipt> EndAsync(CancellationToken cancellationToken = default)
    {
        StopKeepingAlive();
        SandboxReceipt receipt;
        try
        {
            receipt = SandboxReceipt.From(await Api.DeleteWithReceiptAsync(Id, cancellationToken).ConfigureAwait(false));
        }
        catch (Exception e) when (e is SandboxNotFoundException or SandboxGoneException)
        {
            _isOwned = false;
            throw;
        }

        _isOwned = false;
        return receipt;
    }

    /// <summary>
    /// Leaves the sandbox to itself: the client no longer keeps it alive, and <see cref="DisposeAsync"/> no longer ends it. It ends by its
    /// idle timeout, unless another client uses it.
    /// </summary>
    public virtual void Detach()
    {
        StopKeepingAlive();
        _isOwned = false;
    }

    /// <summary>
    /// Ends the sandbox, unless it was detached or has ended. A server that cannot be reached is no error here: the sandbox then ends by
    /// its idle timeout. <see cref="EndAsync"/> reports the result.
    /// </summary>
    public virtual async ValueTask DisposeAsync()
    {
        StopKeepingAlive();
        if (_isOwned)
        {
            _isOwned = false;
            using var limit = new CancellationTokenSource(DisposeLimit, Api.Time);
            try
            {
                await Api.DeleteAsync(Id, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is PandoraClientException or OperationCanceledException or ObjectDisposedException)
            {
                // An exception here would hide the one that ends the caller's block.
            }
        }

        GC.SuppressFinalize(this);
    }

    private async Task<ExecResult> StreamAsync(ExecRequest request, ExecOptions options, CancellationToken cancellationToken)
    {
        var collector = new ExecCollector(options);
        await foreach (var next in new ExecStream(Api, Id, request).ReadAsync(cancellationToken).ConfigureAwait(false))
        {
            if (next.Exit is not null)
            {
                return collector.End(next);
            }

            collector.Add(next);
        }

        throw new InvalidOperationException("a stream of events ended without its last one");
    }

    private void StopKeepingAlive() => Interlocked.Exchange(ref _keepAlive, null)?.Dispose();
}
