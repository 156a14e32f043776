using System.Diagnostics.CodeAnalysis;
using System.Net.Http.Json;
using System.Net.Sockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Pandora.Linux;

namespace Pandora.Vmm.Firecracker;

/// <summary>Calls the API of one Firecracker over its UNIX socket, one call at a time.</summary>
internal sealed class FirecrackerApi : IDisposable
{
    private readonly TimeSpan _callLimit;
    private readonly TimeProvider _time;
    private readonly HttpClient _http;

    /// <summary>Prepares the client; it connects at the first call.</summary>
    /// <param name="socketPath">Path of the socket.</param>
    /// <param name="callLimit">Longest time of a call.</param>
    /// <param name="time">Measures that limit, and the pauses between attempts.</param>
    [SuppressMessage("Reliability", "CA2000", Justification = "The HttpClient disposes its handler")]
    public FirecrackerApi(string socketPath, TimeSpan callLimit, TimeProvider time)
    {
        (_callLimit, _time) = (callLimit, time);
        var handler = new SocketsHttpHandler
        {
            MaxConnectionsPerServer = 1,
            ConnectCallback = async (_, token) => new NetworkStream(await UnixSocket.ConnectAsync(socketPath, token), ownsSocket: true),
        };
        _http = new HttpClient(handler)
        {
            BaseAddress = new Uri("http://localhost"),
            Timeout = Timeout.InfiniteTimeSpan,
            MaxResponseContentBufferSize = 1024 * 1024,
        };
    }

    /// <summary>Waits until Firecracker answers, typically 12 ms after its start.</summary>
    /// <param name="ended">Completes when the process has ended.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    public async Task<InstanceInfo> WaitAsync(Task ended, CancellationToken cancellationToken)
    {
        while (true)
        {
            try
            {
                return await GetAsync("/", FirecrackerJson.Default.InstanceInfo, cancellationToken);
            }
            catch (VmmException e) when (e.InnerException
                is HttpRequestException { InnerException: SocketException or RootedPathException { IsMissing: true } }
                && !ended.IsCompleted)
            {
                // Firecracker has not made its socket yet.
                await Task.Delay(TimeSpan.FromMilliseconds(1), _time, cancellationToken);
            }
        }
    }

    /// <summary>Sends a <c>PUT</c>.</summary>
    /// <exception cref="FirecrackerApiException">Firecracker refused the call.</exception>
    /// <exception cref="VmmException">Firecracker did not answer.</exception>
    public Task PutAsync(string path, byte[] body, CancellationToken cancellationToken) =>
        SendBodyAsync(HttpMethod.Put, path, body, cancellationToken);

    /// <summary>Sends a <c>PATCH</c>.</summary>
    /// <exception cref="FirecrackerApiException">Firecracker refused the call.</exception>
    /// <exception cref="VmmException">Firecracker did not answer.</exception>
    public Task PatchAsync(string path, byte[] body, CancellationToken cancellationToken) =>
        SendBodyAsync(HttpMethod.Patch, path, body, cancellationToken);

    /// <summary>Sends a <c>GET</c> and reads the answer.</summary>
    /// <exception cref="FirecrackerApiException">Firecracker refused the call.</exception>
    /// <exception cref="VmmException">Firecracker did not answer, or the answer has another form.</exception>
    public async Task<T> GetAsync<T>(string path, JsonTypeInfo<T> type, CancellationToken cancellationToken)
    {
        using var response = await SendAsync(HttpMethod.Get, path, null, cancellationToken);
        try
        {
            return await response.Content.ReadFromJsonAsync(type, cancellationToken)
                ?? throw new VmmException($"Firecracker answered GET {path} with nothing");
        }
        catch (JsonException e)
        {
            throw new VmmException($"Firecracker answered GET {path} with unexpected JSON: {e.Message}", e);
        }
    }

    public void Dispose() => _http.Dispose();

    private async Task SendBodyAsync(HttpMethod method, string path, byte[] body, CancellationToken cancellationToken)
    {
        // With a Content-Length, which Firecracker's HTTP parser needs.
        using var content = new ByteArrayContent(body);
        content.Headers.ContentType = new("application/json");
        using var response = await SendAsync(method, path, content, cancellationToken);
    }

    private async Task<HttpResponseMessage> SendAsync(
        HttpMethod method, string path, HttpContent? content, CancellationToken cancellationToken)
    {
        using var request = new HttpRequestMessage(method, path) { Content = content };
        using var clock = new CancellationTokenSource(_callLimit, _time);
        using var limit = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, clock.Token);
        try
        {
            var response = await _http.SendAsync(request, limit.Token);
            if (response.IsSuccessStatusCode)
            {
                return response;
            }

            using (response)
            {
                throw new FirecrackerApiException(
                    $"{method} {path}", (int)response.StatusCode, FaultOf(await response.Content.ReadAsStringAsync(limit.Token)));
            }
        }
        catch (HttpRequestException e)
        {
            throw new VmmException($"Firecracker did not answer {method} {path}: {e.InnerException?.Message ?? e.Message}", e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new VmmException($"Firecracker did not answer {method} {path} within {_callLimit.TotalSeconds:0} s", e);
        }
    }

    private static string FaultOf(string body)
    {
        try
        {
            return JsonSerializer.Deserialize(body, FirecrackerJson.Default.Error)?.FaultMessage ?? body;
        }
        catch (JsonException)
        {
            return body;
        }
    }
}

/// <summary>Firecracker refused a call.</summary>
/// <param name="call">Method and path.</param>
/// <param name="status">HTTP status.</param>
/// <param name="fault">Firecracker's message.</param>
public sealed class FirecrackerApiException(string call, int status, string fault)
    : VmmException($"Firecracker refused {call} ({status}): {fault}")
{
    /// <summary>Method and path, such as <c>PUT /drives/drive0</c>.</summary>
    public string Call { get; } = call;

    /// <summary>Firecracker's <c>fault_message</c>.</summary>
    public string Fault { get; } = fault;
}
