using System.Diagnostics.CodeAnalysis;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// A client of one Pandora server. It is safe for use by many threads: keep one for the life of the program. Members are virtual, so that a
/// test can replace them.
/// </summary>
/// <example>
/// <code>
/// using var pandora = new PandoraClient("http://127.0.0.1:8000");
/// await using var sandbox = await pandora.CreateAsync();
/// var result = await sandbox.ExecAsync("echo hello");
/// Console.WriteLine(result.Stdout);
/// </code>
/// </example>
public partial class PandoraClient : IDisposable
{
    private readonly PandoraApi? _api;

    /// <summary>Creates a client.</summary>
    /// <param name="url">Address of the server, such as <c>http://127.0.0.1:8000</c>.</param>
    /// <param name="apiKey">API key, where the server needs one.</param>
    public PandoraClient(string url, string? apiKey)
        : this(new PandoraClientOptions { Url = new Uri(url), ApiKey = apiKey })
    {
    }

    /// <inheritdoc cref="PandoraClient(string, string)"/>
    public PandoraClient(string url)
        : this(url, null)
    {
    }

    /// <summary>Creates a client.</summary>
    /// <param name="options">Its settings.</param>
    /// <exception cref="ArgumentException">A setting is not allowed.</exception>
    [SuppressMessage("Reliability", "CA2000", Justification = "The API disposes the HTTP client, and Dispose the API")]
    public PandoraClient(PandoraClientOptions options)
        : this(options, new HttpClientHandler())
    {
    }

    /// <summary>Creates a client on a handler, which it disposes.</summary>
    [SuppressMessage("Reliability", "CA2000", Justification = "The API disposes the HTTP client, and Dispose the API")]
    internal PandoraClient(PandoraClientOptions options, HttpMessageHandler handler)
    {
        ArgumentNullException.ThrowIfNull(options);
        options.Check();
        // Commands may run for minutes: the server limits their time, and the caller's token ends a wait.
        _api = new PandoraApi(new HttpClient(handler) { Timeout = Timeout.InfiniteTimeSpan }, options, options.Url, ownsHttp: true);
    }

    /// <summary>Creates a client on an <see cref="HttpClient"/> of the caller's, such as one of <c>IHttpClientFactory</c>.</summary>
    /// <param name="http">
    /// The HTTP client. It is not disposed. Its <see cref="HttpClient.BaseAddress"/>, where it has one, is the server's address; its
    /// timeout must be longer than the longest command.
    /// </param>
    /// <param name="options">Settings of the client.</param>
    public PandoraClient(HttpClient http, PandoraClientOptions options)
    {
        ArgumentNullException.ThrowIfNull(http);
        ArgumentNullException.ThrowIfNull(options);
        options.Check(http.BaseAddress);
        _api = new PandoraApi(http, options, http.BaseAddress ?? options.Url, ownsHttp: false);
    }

    /// <inheritdoc cref="PandoraClient(HttpClient, PandoraClientOptions)"/>
    public PandoraClient(HttpClient http)
        : this(http, new PandoraClientOptions())
    {
    }

    /// <summary>For a class of a test that replaces members. The others throw <see cref="NotSupportedException"/>.</summary>
    protected PandoraClient()
    {
    }

    /// <summary>The API on the wire.</summary>
    internal PandoraApi Api => _api ?? throw new NotSupportedException("this client has no server: replace the member in your test");

    /// <summary>
    /// Creates a sandbox. Disposing the result ends the sandbox; until then the client keeps it alive, unless the options say otherwise.
    /// </summary>
    /// <param name="options">What the sandbox is to be like; null is the default.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="SandboxUnavailableException">The server has no room for another sandbox, no microVM became ready in time, or a
    /// quota of the project is used up.</exception>
    /// <exception cref="InvalidRequestException">An option is out of its range.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason, such as an option above a ceiling of the project
    /// (code <c>above_ceiling</c>).</exception>
    public virtual async Task<Sandbox> CreateAsync(CreateSandboxOptions? options = null, CancellationToken cancellationToken = default)
    {
        options ??= new CreateSandboxOptions();
        var request = new CreateSandboxRequest(
            options.IdleTimeout?.TotalSeconds, options.Template, options.Metadata, options.Egress, options.MemoryMib, options.Vcpus,
            options.DiskMib, options.PublicPorts, options.SshKeys);
        var created = await Api.CreateAsync(request, options.IdempotencyKey, cancellationToken).ConfigureAwait(false);
        return new Sandbox(Api, created, options.KeepAlive ?? Api.KeepsAlive);
    }

    /// <summary>
    /// Returns a sandbox that is known by its id, without asking the server. The sandbox is detached: the client does not keep it alive,
    /// and disposing the result does not end it.
    /// </summary>
    /// <param name="id">Id of the sandbox.</param>
    public virtual Sandbox Connect(string id)
    {
        ArgumentException.ThrowIfNullOrEmpty(id);
        return new Sandbox(Api, id);
    }

    /// <summary>Lists the sandboxes, oldest first.</summary>
    /// <param name="metadata">Only those that have all these pairs; null is all.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraClientException">The request failed.</exception>
    public virtual async Task<IReadOnlyList<SandboxDetails>> ListAsync(
        IReadOnlyDictionary<string, string>? metadata = null, CancellationToken cancellationToken = default) =>
        [.. (await Api.ListAsync(metadata, cancellationToken).ConfigureAwait(false)).Select(SandboxDetails.From)];

    /// <summary>Shows one sandbox.</summary>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual async Task<SandboxDetails> GetAsync(string id, CancellationToken cancellationToken = default) =>
        SandboxDetails.From(await Api.GetAsync(id, cancellationToken).ConfigureAwait(false));

    /// <summary>Ends a sandbox.</summary>
    /// <returns>Time until its guest was dead and its files were gone, as the server measured it; null when the answer does not
    /// say.</returns>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    /// <exception cref="PandoraClientException">The request failed for another reason.</exception>
    public virtual Task<TimeSpan?> DeleteAsync(string id, CancellationToken cancellationToken = default) =>
        Api.DeleteAsync(id, cancellationToken);

    /// <summary>Shows the state of the server.</summary>
    /// <exception cref="PandoraClientException">The request failed.</exception>
    public virtual async Task<ServerHealth> GetHealthAsync(CancellationToken cancellationToken = default) =>
        ServerHealth.From(await Api.GetHealthAsync(cancellationToken).ConfigureAwait(false));

    /// <summary>Reads the server's metrics, in Prometheus' text format.</summary>
    /// <exception cref="PandoraClientException">The request failed.</exception>
    public virtual Task<string> GetMetricsAsync(CancellationToken cancellationToken = default) => Api.GetMetricsAsync(cancellationToken);

    /// <summary>
    /// Closes the client's connections, unless its <see cref="HttpClient"/> is the caller's. Sandboxes whose client is closed are no longer
    /// kept alive, and end by their idle timeout.
    /// </summary>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Closes the client's connections.</summary>
    /// <param name="disposing">Whether <see cref="Dispose()"/> was called.</param>
    protected virtual void Dispose(bool disposing)
    {
        if (disposing)
        {
            _api?.Dispose();
        }
    }
}
