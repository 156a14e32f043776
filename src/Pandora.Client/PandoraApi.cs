using System.Globalization;
using System.Net;
using System.Net.Http.Json;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// The server's HTTP API as it is on the wire: one method per request, each with retries and with errors as exceptions.
/// <see cref="PandoraClient"/> turns it into the types of this package; the command line prints it.
/// </summary>
internal sealed partial class PandoraApi(HttpClient http, PandoraClientOptions options, Uri url, bool ownsHttp) : IDisposable
{
    private static readonly TimeSpan MinRetryDelay = TimeSpan.FromMilliseconds(200), MaxRetryDelay = TimeSpan.FromHours(1);

    // Relative paths are resolved against the last '/': without it, the last part of the path would be lost.
    private readonly Uri _base = new(url.AbsoluteUri.TrimEnd('/') + "/");

    /// <summary>Address of the server.</summary>
    public Uri Url => _base;

    /// <summary>The HTTP client, for protocols that a library speaks.</summary>
    public HttpClient Http => http;

    /// <summary>The API key; null for none.</summary>
    public string? ApiKey => options.ApiKey;

    /// <summary>Clock of retries, reconnections and keeping alive.</summary>
    public TimeProvider Time => options.TimeProvider;

    /// <summary>Longest time that a stream spends on one loss of its connection.</summary>
    public TimeSpan MaxReconnectTime => options.MaxReconnectTime;

    /// <summary>Whether created sandboxes are kept alive unless their options say otherwise.</summary>
    public bool KeepsAlive => options.KeepAlive;

    public async Task<SandboxCreated> CreateAsync(
        CreateSandboxRequest request, string? idempotencyKey, CancellationToken cancellationToken)
    {
        var created = await ReadAsync(
            HttpMethod.Post, "sandboxes", PandoraJson.Default.SandboxCreated, cancellationToken,
            () => Content(request, PandoraJson.Default.CreateSandboxRequest, idempotencyKey)).ConfigureAwait(false);
        return string.IsNullOrEmpty(created.SandboxId) ? throw NotUnderstood("it names no sandbox") : created;
    }

    public async Task<SandboxInfo[]> ListAsync(IReadOnlyDictionary<string, string>? metadata, CancellationToken cancellationToken)
    {
        var pairs = metadata?.Select(p => $"metadata={Uri.EscapeDataString(MetadataFilter.Write(p.Key, p.Value))}") ?? [];
        var list = await ReadAsync(
            HttpMethod.Get, $"sandboxes?{string.Join('&', pairs)}", PandoraJson.Default.SandboxInfoArray, cancellationToken)
            .ConfigureAwait(false);
        return list.Any(s => s?.SandboxId is null) ? throw NotUnderstood("a sandbox in it has no id") : list;
    }

    public Task<SandboxInfo> GetAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Get, PathOf(id), PandoraJson.Default.SandboxInfo, cancellationToken);

    public Task<SandboxInfo> KeepAliveAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Post, $"{PathOf(id)}/keepalive", PandoraJson.Default.SandboxInfo, cancellationToken);

    public Task<SandboxInfo> SetEgressAsync(string id, EgressRequest request, CancellationToken cancellationToken) =>
        ReadAsync(
            HttpMethod.Put, $"{PathOf(id)}/egress", PandoraJson.Default.SandboxInfo, cancellationToken,
            () => Content(request, PandoraJson.Default.EgressRequest));

    public async Task<ExecResponse> ExecAsync(string id, ExecRequest request, CancellationToken cancellationToken)
    {
        try
        {
            return await ReadAsync(
                HttpMethod.Post, $"{PathOf(id)}/exec", PandoraJson.Default.ExecResponse, cancellationToken,
                () => Content(request, PandoraJson.Default.ExecRequest)).ConfigureAwait(false);
        }
        catch (ExecTimeoutException e) when (request.Encoding == ByteEncodings.Base64)
        {
            e.DecodeOutputs();
            throw;
        }
        catch (UnexpectedAnswerException e) when (e.InnerException is not null and not JsonException)
        {
            throw NotAnswered(e);
        }
    }

    /// <summary>What is known of a command whose answer broke off.</summary>
    public static ExecInterruptedException NotAnswered(UnexpectedAnswerException cause)
    {
        const string Message = "the whole answer of the server did not come: "
            + "the command may have run, in part or to its end, and is not repeated";
        return new(Message, new ApiProblem(Detail: Message, Code: ErrorCodes.Interrupted.Code), null, cause.InnerException);
    }

    /// <summary>The bytes of an output that was asked for as base64.</summary>
    /// <exception cref="UnexpectedAnswerException">It is not base64.</exception>
    public static byte[] Decode(string? output)
    {
        try
        {
            return Convert.FromBase64String(output ?? "");
        }
        catch (FormatException e)
        {
            throw NotUnderstood("an output is not base64", e);
        }
    }

    public Task<Receipt> DeleteWithReceiptAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Delete, $"{PathOf(id)}?receipt=true", PandoraJson.Default.Receipt, cancellationToken);

    /// <returns>Time of the teardown as the server measured it; null when the answer does not say.</returns>
    public async Task<TimeSpan?> DeleteAsync(string id, CancellationToken cancellationToken)
    {
        const string Teardown = "teardown;dur=";
        using var response = await SendAsync(HttpMethod.Delete, PathOf(id), null, cancellationToken).ConfigureAwait(false);
        var timing = response.Headers.TryGetValues("Server-Timing", out var values)
            ? values.FirstOrDefault(v => v.StartsWith(Teardown, StringComparison.Ordinal))
            : null;
        return double.TryParse(timing?[Teardown.Length..], CultureInfo.InvariantCulture, out var milliseconds)
            ? WireTime.Milliseconds(milliseconds)
            : null;
    }

    public Task<Health> GetHealthAsync(CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Get, "health", PandoraJson.Default.Health, cancellationToken);

    public async Task<string> GetMetricsAsync(CancellationToken cancellationToken)
    {
        using var response = await SendAsync(HttpMethod.Get, "metrics", null, cancellationToken).ConfigureAwait(false);
        return await response.Content.ReadAsStringAsync(cancellationToken).ConfigureAwait(false);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (ownsHttp)
        {
            http.Dispose();
        }
    }

    private static string PathOf(string id) => $"sandboxes/{Uri.EscapeDataString(id)}";

    private static JsonContent Content<T>(T body, JsonTypeInfo<T> type, string? idempotencyKey = null)
    {
        var content = JsonContent.Create(body, type);
        if (idempotencyKey is not null)
        {
            content.Headers.TryAddWithoutValidation("Idempotency-Key", idempotencyKey);
        }

        return content;
    }

    private async Task<T> ReadAsync<T>(
        HttpMethod method, string path, JsonTypeInfo<T> type, CancellationToken cancellationToken, Func<HttpContent>? content = null)
    {
        using var response = await SendAsync(method, path, content, cancellationToken).ConfigureAwait(false);
        return await ReadJsonAsync(response, type, cancellationToken).ConfigureAwait(false);
    }

    private static async Task<T> ReadJsonAsync<T>(HttpResponseMessage response, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        try
        {
            return await response.Content.ReadFromJsonAsync(type, cancellationToken).ConfigureAwait(false)
                ?? throw new UnexpectedAnswerException("the server's answer is empty");
        }
        catch (Exception e) when (e is JsonException or NotSupportedException or InvalidOperationException)
        {
            throw NotUnderstood(e.Message, new JsonException(e.Message, e));
        }
    }

    // An answer of the type that is asked for is a stream, which the caller reads; any other is here as a whole. A body that can be read
    // once only says with mayRepeat whether it still can be.
    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, Func<HttpContent>? content, CancellationToken cancellationToken, string? streamType = null,
        Action<HttpRequestMessage>? prepare = null, Func<bool>? mayRepeat = null)
    {
        var start = Time.GetTimestamp();
        while (true)
        {
            var response = await SendOnceAsync(method, path, content?.Invoke(), streamType, prepare, cancellationToken)
                .ConfigureAwait(false);
            if (response.IsSuccessStatusCode || response.StatusCode == HttpStatusCode.SwitchingProtocols)
            {
                return response;
            }

            PandoraApiException error;
            using (response)
            {
                var problem = await ReadProblemAsync(response, cancellationToken).ConfigureAwait(false);
                error = PandoraApiException.From(problem, RetryAfterOf(response));
            }

            // A little later than the server says, and not all clients at once.
            var delay = Max(error.RetryAfter ?? TimeSpan.Zero, MinRetryDelay) * (1 + (Random.Shared.NextDouble() / 10));
            if (!(error.MayPass && error.RetryAfter <= MaxRetryDelay) || mayRepeat?.Invoke() == false
                || Time.GetElapsedTime(start) + delay > options.MaxRetryTime)
            {
                throw error;
            }

            await Task.Delay(delay, Time, cancellationToken).ConfigureAwait(false);
        }
    }

    private TimeSpan? RetryAfterOf(HttpResponseMessage response) => response.Headers.RetryAfter switch
    {
        { Delta: { } delta } => delta,
        { Date: { } date } => Max(date - Time.GetUtcNow(), TimeSpan.Zero),
        _ => null,
    };

    private static TimeSpan Max(TimeSpan a, TimeSpan b) => a > b ? a : b;

    internal static UnexpectedAnswerException NotUnderstood(string why, Exception? cause = null) =>
        new($"the server's answer was not understood: {why}", cause);

    private async Task<HttpResponseMessage> SendOnceAsync(
        HttpMethod method, string path, HttpContent? content, string? streamType, Action<HttpRequestMessage>? prepare,
        CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, new Uri(_base, path)) { Content = content };
        if (options.ApiKey is { } key)
        {
            request.Headers.Authorization = new("Bearer", key);
        }

        prepare?.Invoke(request);
        var completion = HttpCompletionOption.ResponseContentRead;
        if (streamType is not null)
        {
            request.Headers.Accept.Add(new(streamType));
            completion = HttpCompletionOption.ResponseHeadersRead;
        }

        try
        {
            return await http.SendAsync(request, completion, cancellationToken).ConfigureAwait(false);
        }
        catch (HttpRequestException e) when (IsBeforeSending(e.HttpRequestError))
        {
            var why = e.HttpRequestError == HttpRequestError.ConnectionError ? "" : $": {e.Message}";
            throw new ServerUnreachableException($"no Pandora server answers at {url}{why}", e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UnexpectedAnswerException("the HTTP client's own timeout ended before the answer had come", e);
        }
        catch (Exception e) when (e is not (OperationCanceledException or ObjectDisposedException))
        {
            // Also what a message handler of the caller's throws.
            throw new UnexpectedAnswerException($"the connection to the server broke before the whole answer had come: {e.Message}", e);
        }
    }

    private static bool IsBeforeSending(HttpRequestError error) =>
        error
            is HttpRequestError.ConnectionError
                or HttpRequestError.NameResolutionError
                or HttpRequestError.SecureConnectionError
                or HttpRequestError.ProxyTunnelError
                or HttpRequestError.VersionNegotiationError;

    private static async Task<ApiProblem> ReadProblemAsync(HttpResponseMessage response, CancellationToken cancellationToken)
    {
        var text = "";
        try
        {
            text = await response.Content.ReadAsStringAsync(cancellationToken).ConfigureAwait(false);
            if (JsonSerializer.Deserialize(text, PandoraJson.Default.ApiProblem) is { } problem)
            {
                return problem with { Status = problem.Status ?? (int)response.StatusCode };
            }

            text = "";
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            // The answer of something else, such as a proxy.
        }

        return new ApiProblem(response.ReasonPhrase, (int)response.StatusCode, text.Length > 200 ? text[..200] : text);
    }
}
