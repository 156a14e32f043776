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
internal sealed class PandoraApi(HttpClient http, PandoraClientOptions options, Uri url, bool ownsHttp) : IDisposable
{
    // Relative paths are resolved against the last '/': without it, the last part of the path would be lost.
    private readonly Uri _base = new(url.AbsoluteUri.TrimEnd('/') + "/");

    /// <summary>Clock of retries and of keeping alive.</summary>
    public TimeProvider Time => options.TimeProvider;

    /// <summary>Whether created sandboxes are kept alive unless their options say otherwise.</summary>
    public bool KeepsAlive => options.KeepAlive;

    public async Task<SandboxCreated> CreateAsync(
        CreateSandboxRequest request, string? idempotencyKey, CancellationToken cancellationToken) =>
        await ReadAsync(
            HttpMethod.Post, "sandboxes", PandoraJson.Default.SandboxCreated, cancellationToken,
            () => Content(request, PandoraJson.Default.CreateSandboxRequest, idempotencyKey));

    public async Task<SandboxInfo[]> ListAsync(IReadOnlyDictionary<string, string>? metadata, CancellationToken cancellationToken)
    {
        var pairs = metadata?.Select(p => $"metadata={Uri.EscapeDataString(MetadataFilter.Write(p.Key, p.Value))}") ?? [];
        return await ReadAsync(
            HttpMethod.Get, $"sandboxes?{string.Join('&', pairs)}", PandoraJson.Default.SandboxInfoArray, cancellationToken);
    }

    public Task<SandboxInfo> GetAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Get, PathOf(id), PandoraJson.Default.SandboxInfo, cancellationToken);

    public Task<SandboxInfo> KeepAliveAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Post, $"{PathOf(id)}/keepalive", PandoraJson.Default.SandboxInfo, cancellationToken);

    public async Task<ExecResponse> ExecAsync(string id, ExecRequest request, CancellationToken cancellationToken)
    {
        try
        {
            return await ReadAsync(
                HttpMethod.Post, $"{PathOf(id)}/exec", PandoraJson.Default.ExecResponse, cancellationToken,
                () => Content(request, PandoraJson.Default.ExecRequest));
        }
        catch (UnexpectedAnswerException e) when (e.InnerException is HttpRequestException or IOException)
        {
            const string Message = "the connection to the server broke before the whole answer had come: "
                + "the command may have run, in part or to its end, and is not repeated";
            throw new ExecInterruptedException(
                Message, new ApiProblem(Detail: Message, Code: ErrorCodes.Interrupted.Code), null, e.InnerException);
        }
    }

    public Task<Receipt> DeleteWithReceiptAsync(string id, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Delete, $"{PathOf(id)}?receipt=true", PandoraJson.Default.Receipt, cancellationToken);

    /// <returns>Time of the teardown as the server measured it; null when the answer does not say.</returns>
    public async Task<TimeSpan?> DeleteAsync(string id, CancellationToken cancellationToken)
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

    public Task<Health> GetHealthAsync(CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Get, "health", PandoraJson.Default.Health, cancellationToken);

    public async Task<string> GetMetricsAsync(CancellationToken cancellationToken)
    {
        using var response = await SendAsync(HttpMethod.Get, "metrics", null, cancellationToken);
        return await response.Content.ReadAsStringAsync(cancellationToken);
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
        using var response = await SendAsync(method, path, content, cancellationToken);
        try
        {
            return await response.Content.ReadFromJsonAsync(type, cancellationToken)
                ?? throw new UnexpectedAnswerException("the server's answer is empty");
        }
        catch (Exception e) when (e is JsonException or HttpRequestException or IOException or NotSupportedException)
        {
            throw new UnexpectedAnswerException($"the server's answer was not understood: {e.Message}", e);
        }
    }

    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, Func<HttpContent>? content, CancellationToken cancellationToken)
    {
        var start = Time.GetTimestamp();
        while (true)
        {
            var response = await SendOnceAsync(method, path, content?.Invoke(), cancellationToken);
            if (response.IsSuccessStatusCode)
            {
                return response;
            }

            PandoraApiException error;
            using (response)
            {
                var retryAfter = response.Headers.RetryAfter?.Delta;
                error = PandoraApiException.From(await ReadProblemAsync(response, cancellationToken), retryAfter);
            }

            if (!IsRetryable(error) || Time.GetElapsedTime(start) + error.RetryAfter > options.MaxRetryTime)
            {
                throw error;
            }

            await Task.Delay(error.RetryAfter!.Value, Time, cancellationToken);
        }
    }

    // With either the server has done nothing of the request.
    private static bool IsRetryable(PandoraApiException error) =>
        error.RetryAfter is not null
        && (error.Status == (int)HttpStatusCode.TooManyRequests || error.Code == ErrorCodes.Recovering.Code);

    private async Task<HttpResponseMessage> SendOnceAsync(
        HttpMethod method, string path, HttpContent? content, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, new Uri(_base, path)) { Content = content };
        if (options.ApiKey is { } key)
        {
            request.Headers.Authorization = new("Bearer", key);
        }

        try
        {
            return await http.SendAsync(request, cancellationToken);
        }
        catch (HttpRequestException e) when (e.HttpRequestError is HttpRequestError.ConnectionError or HttpRequestError.NameResolutionError)
        {
            throw new ServerUnreachableException($"no Pandora server answers at {url}", e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new UnexpectedAnswerException($"the connection to the server broke before the whole answer had come: {e.Message}", e);
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
            // The answer of something else, such as a proxy.
            return new ApiProblem(response.ReasonPhrase, (int)response.StatusCode, text.Length > 200 ? text[..200] : text);
        }
    }
}
