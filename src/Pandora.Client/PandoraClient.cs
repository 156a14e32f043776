using System.Globalization;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>Talks to one Pandora server. Safe to use from many threads; keep one for the life of the program.</summary>
/// <example>
/// <code>
/// using var pandora = new PandoraClient("http://127.0.0.1:8000");
/// await using var sandbox = await pandora.CreateAsync();
/// var result = await sandbox.ExecAsync("echo hello");
/// Console.WriteLine(result.Stdout);
/// </code>
/// </example>
public sealed class PandoraClient : IDisposable
{
    private readonly HttpClient _http;
    private readonly bool _ownsHttp;

    /// <summary>Makes a client with connections of its own.</summary>
    /// <param name="url">The server, such as <c>http://127.0.0.1:8000</c>.</param>
    /// <param name="apiKey">A key, where the server asks for one.</param>
    public PandoraClient(string url, string? apiKey = null)
    {
        // Commands may run for minutes: the server keeps the time, and a caller's token ends a wait.
        _http = new HttpClient { BaseAddress = new Uri(url), Timeout = Timeout.InfiniteTimeSpan };
        _ownsHttp = true;
        if (apiKey is not null)
        {
            _http.DefaultRequestHeaders.Authorization = new("Bearer", apiKey);
        }
    }

    /// <summary>
    /// Uses somebody else's <see cref="HttpClient"/>, such as one of <c>IHttpClientFactory</c>'s, whose <see
    /// cref="HttpClient.BaseAddress"/> is the server.
    /// </summary>
    /// <param name="http">The client; it is not disposed. Its timeout must allow for the longest command.</param>
    public PandoraClient(HttpClient http)
    {
        ArgumentNullException.ThrowIfNull(http);
        _http = http;
    }

    /// <summary>Claims a warm microVM.</summary>
    /// <param name="idleTimeout">Idleness after which the server ends it, from <see cref="Limits.MinIdleTimeout"/> to
    /// <see cref="Limits.MaxIdleTimeout"/> seconds unless the server has another cap; null is the server's default.</param>
    /// <param name="template">Template to start from; null is <c>default</c>.</param>
    /// <param name="metadata">Pairs to find it again by, of at most <see cref="Limits.MaxMetadataBytes"/>.</param>
    /// <param name="egress"><c>internet</c> or <c>none</c>; null is the server's default.</param>
    /// <param name="idempotencyKey">At most <see cref="Limits.MaxIdempotencyKeyLength"/> visible ASCII characters that name this request:
    /// sent again with it, after an answer that never came, it gets the same sandbox.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="SandboxUnavailableException">There are too many sandboxes, or none became ready in time.</exception>
    /// <exception cref="InvalidRequestException">A value is out of its range.</exception>
    public async Task<Sandbox> CreateAsync(
        TimeSpan? idleTimeout = null,
        string? template = null,
        IReadOnlyDictionary<string, string>? metadata = null,
        string? egress = null,
        string? idempotencyKey = null,
        CancellationToken cancellationToken = default)
    {
        var request = new CreateSandboxRequest(idleTimeout?.TotalSeconds, template, metadata, egress);
        using var content = JsonContent.Create(request, PandoraJson.Default.CreateSandboxRequest);
        if (idempotencyKey is not null)
        {
            content.Headers.TryAddWithoutValidation("Idempotency-Key", idempotencyKey);
        }

        var created = await SendAsync(HttpMethod.Post, "/sandboxes", content, PandoraJson.Default.SandboxCreated, cancellationToken);
        return new Sandbox(this, created);
    }

    /// <summary>Lists sandboxes, oldest first.</summary>
    /// <param name="metadata">Only those that have all these pairs.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<IReadOnlyList<SandboxInfo>> ListAsync(
        IReadOnlyDictionary<string, string>? metadata = null, CancellationToken cancellationToken = default)
    {
        var query = string.Join('&',
            (metadata ?? new Dictionary<string, string>())
            .Select(p => $"metadata={Uri.EscapeDataString(MetadataFilter.Write(p.Key, p.Value))}"));
        return await SendAsync(HttpMethod.Get, $"/sandboxes?{query}", null, PandoraJson.Default.SandboxInfoArray, cancellationToken);
    }

    /// <summary>Shows one sandbox.</summary>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    public Task<SandboxInfo> GetAsync(string id, CancellationToken cancellationToken = default) =>
        SendAsync(HttpMethod.Get, PathOf(id), null, PandoraJson.Default.SandboxInfo, cancellationToken);

    /// <summary>Shows the server's state.</summary>
    public Task<Health> GetHealthAsync(CancellationToken cancellationToken = default) =>
        SendAsync(HttpMethod.Get, "/health", null, PandoraJson.Default.Health, cancellationToken);

    /// <summary>Runs a command in a sandbox known by its id.</summary>
    /// <exception cref="ExecTimeoutException">It ran into its timeout; <see cref="ExecTimeoutException.Command"/> tells what became of
    /// it.</exception>
    /// <exception cref="SandboxNotFoundException">There is no such sandbox.</exception>
    /// <exception cref="SandboxGoneException">Its microVM died.</exception>
    /// <exception cref="ExecInterruptedException">The server went away meanwhile.</exception>
    /// <exception cref="InvalidRequestException">A value is out of its range.</exception>
    public async Task<ExecResult> ExecAsync(string id, ExecRequest request, CancellationToken cancellationToken = default)
    {
        using var content = JsonContent.Create(request, PandoraJson.Default.ExecRequest);
        try
        {
            return new ExecResult(
                await SendAsync(HttpMethod.Post, $"{PathOf(id)}/exec", content, PandoraJson.Default.ExecResponse, cancellationToken));
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            // The request had been sent: SendAsync tells a server that was never reached.
            const string Words = "the connection to the server broke before the whole answer had come: "
                + "the command may have run, in part or to its end, and is not repeated";
            throw new ExecInterruptedException(Words, new ApiProblem(Detail: Words, Code: ErrorCodes.Interrupted.Code), e);
        }
    }

    /// <summary>Starts a sandbox's idle clock again.</summary>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    public Task<SandboxInfo> KeepAliveAsync(string id, CancellationToken cancellationToken = default) =>
        SendAsync(HttpMethod.Post, $"{PathOf(id)}/keepalive", null, PandoraJson.Default.SandboxInfo, cancellationToken);

    /// <summary>Ends a sandbox.</summary>
    /// <returns>Time until its guest was dead and its files gone, as the server saw it; null when it does not tell.</returns>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    public async Task<TimeSpan?> DeleteAsync(string id, CancellationToken cancellationToken = default)
    {
        const string Teardown = "teardown;dur=";
        using var response = await SendAsync(HttpMethod.Delete, PathOf(id), null, cancellationToken);
        var timing = response.Headers.TryGetValues("Server-Timing", out var values)
            ? values.FirstOrDefault(v => v.StartsWith(Teardown, StringComparison.Ordinal))
            : null;
        return double.TryParse(timing?[Teardown.Length..], CultureInfo.InvariantCulture, out var milliseconds)
            ? TimeSpan.FromMilliseconds(milliseconds)
            : null;
    }

    /// <summary>Reads the server's metrics in Prometheus' text format.</summary>
    public async Task<string> GetMetricsAsync(CancellationToken cancellationToken = default)
    {
        using var response = await SendAsync(HttpMethod.Get, "/metrics", null, cancellationToken);
        return await response.Content.ReadAsStringAsync(cancellationToken);
    }

    /// <summary>Ends a sandbox and tells what was undone.</summary>
    /// <exception cref="SandboxNotFoundException">There is none with that id.</exception>
    public Task<Receipt> DeleteWithReceiptAsync(string id, CancellationToken cancellationToken = default) =>
        SendAsync(HttpMethod.Delete, $"{PathOf(id)}?receipt=true", null, PandoraJson.Default.Receipt, cancellationToken);

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_ownsHttp)
        {
            _http.Dispose();
        }
    }

    private static string PathOf(string id) => $"/sandboxes/{Uri.EscapeDataString(id)}";

    private async Task<T> SendAsync<T>(
        HttpMethod method, string path, HttpContent? content, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        using var response = await SendAsync(method, path, content, cancellationToken);
        return await response.Content.ReadFromJsonAsync(type, cancellationToken)
            ?? throw new PandoraApiException("the server's answer is empty", new ApiProblem(Status: (int)response.StatusCode));
    }

    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, HttpContent? content, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        HttpResponseMessage response;
        try
        {
            response = await _http.SendAsync(request, cancellationToken);
        }
        catch (HttpRequestException e) when (e.HttpRequestError == HttpRequestError.ConnectionError)
        {
            throw new ServerUnreachableException($"no Pandora server answers at {_http.BaseAddress}", "'./pandora up' starts one", e);
        }

        if (response.IsSuccessStatusCode)
        {
            return response;
        }

        using (response)
        {
            throw PandoraApiException.From(await ReadProblemAsync(response, cancellationToken));
        }
    }

    private static async Task<ApiProblem> ReadProblemAsync(HttpResponseMessage response, CancellationToken cancellationToken)
    {
        var text = await response.Content.ReadAsStringAsync(cancellationToken);
        try
        {
            var problem = JsonSerializer.Deserialize(text, PandoraJson.Default.ApiProblem);
            return problem! with { Status = problem.Status ?? (int)response.StatusCode };
        }
        catch (JsonException)
        {
            // Not a Pandora server, or something between.
            return new ApiProblem(response.ReasonPhrase, (int)response.StatusCode, text.Length > 200 ? text[..200] : text);
        }
    }
}
