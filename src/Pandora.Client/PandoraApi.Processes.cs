using System.Globalization;
using System.Net;
using System.Net.WebSockets;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>The requests under <c>/sandboxes/{id}/processes</c>, and the streamed <c>exec</c>.</summary>
internal sealed partial class PandoraApi
{
    private const string EventStream = "text/event-stream";

    // A server answers a wait after this time, whatever the process does.
    private static readonly TimeSpan WaitTime = TimeSpan.FromSeconds(30), WaitLimit = TimeSpan.FromSeconds(45);

    public async Task<ProcessState> StartProcessAsync(string id, StartProcessRequest request, CancellationToken cancellationToken)
    {
        var state = await ReadAsync(
            HttpMethod.Post, $"{PathOf(id)}/processes", PandoraJson.Default.ProcessState, cancellationToken,
            () => Content(request, PandoraJson.Default.StartProcessRequest)).ConfigureAwait(false);
        return string.IsNullOrEmpty(state.ProcessId) ? throw NotUnderstood("it names no process") : state;
    }

    public async Task<ProcessState[]> ListProcessesAsync(string id, CancellationToken cancellationToken)
    {
        var list = await ReadAsync(
            HttpMethod.Get, $"{PathOf(id)}/processes", PandoraJson.Default.ProcessStateArray, cancellationToken).ConfigureAwait(false);
        return list.Any(p => p?.ProcessId is null) ? throw NotUnderstood("a process in it has no id") : list;
    }

    public Task<ProcessState> GetProcessAsync(string id, string process, CancellationToken cancellationToken) =>
        ReadAsync(HttpMethod.Get, PathOf(id, process), PandoraJson.Default.ProcessState, cancellationToken);

    /// <summary>The state at the end of the process, or after some time the state then.</summary>
    public async Task<ProcessState> WaitForProcessAsync(string id, string process, CancellationToken cancellationToken)
    {
        // A connection that died without a word must not be waited for.
        using var limit = new CancellationTokenSource(WaitLimit, Time);
        using var either = CancellationTokenSource.CreateLinkedTokenSource(cancellationToken, limit.Token);
        try
        {
            return await ReadAsync(
                HttpMethod.Get, $"{PathOf(id, process)}/wait?timeout={WaitTime.TotalSeconds:0}", PandoraJson.Default.ProcessState,
                either.Token).ConfigureAwait(false);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UnexpectedAnswerException($"the server did not answer within {WaitLimit.TotalSeconds:0} s", e);
        }
    }

    public async Task SignalProcessAsync(string id, string process, string signal, CancellationToken cancellationToken) =>
        (await SendAsync(
            HttpMethod.Post, $"{PathOf(id, process)}/signal",
            () => Content(new SignalRequest(signal), PandoraJson.Default.SignalRequest), cancellationToken).ConfigureAwait(false))
        .Dispose();

    public async Task ResizeProcessAsync(string id, string process, TerminalSize size, CancellationToken cancellationToken) =>
        (await SendAsync(
            HttpMethod.Post, $"{PathOf(id, process)}/resize", () => Content(size, PandoraJson.Default.TerminalSize), cancellationToken)
            .ConfigureAwait(false))
        .Dispose();

    /// <summary>Writes bytes that begin at an offset of the input. Returns when the process's pipe has taken them all.</summary>
    public async Task WriteProcessInputAsync(
        string id, string process, long offset, ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken) =>
        (await SendAsync(
            HttpMethod.Post, string.Create(CultureInfo.InvariantCulture, $"{PathOf(id, process)}/input?offset={offset}"),
            () => new ReadOnlyMemoryContent(bytes) { Headers = { ContentType = new("application/octet-stream") } }, cancellationToken)
            .ConfigureAwait(false))
        .Dispose();

    public async Task EndProcessInputAsync(string id, string process, CancellationToken cancellationToken) =>
        (await SendAsync(HttpMethod.Delete, $"{PathOf(id, process)}/input", null, cancellationToken).ConfigureAwait(false)).Dispose();

    /// <summary>The output of a process as events with base64.</summary>
    /// <param name="id">Id of the sandbox.</param>
    /// <param name="process">Id of the process.</param>
    /// <param name="from">Offset of the first byte; -1 for what comes from now on.</param>
    /// <param name="follow">False ends the stream where the output ends now.</param>
    /// <param name="cancellationToken">Ends the wait for the answer's headers.</param>
    public Task<HttpResponseMessage> OpenOutputAsync(
        string id, string process, long from, bool follow, CancellationToken cancellationToken)
    {
        var query = string.Create(
            CultureInfo.InvariantCulture, $"from={from}&encoding={ByteEncodings.Base64}{(follow ? "" : "&follow=false")}");
        return SendAsync(HttpMethod.Get, $"{PathOf(id, process)}/output?{query}", null, cancellationToken, EventStream);
    }

    /// <summary>Runs a command and answers with events; an older server answers with the collected output.</summary>
    public Task<HttpResponseMessage> OpenExecAsync(string id, ExecRequest request, CancellationToken cancellationToken) =>
        SendAsync(
            HttpMethod.Post, $"{PathOf(id)}/exec", () => Content(request, PandoraJson.Default.ExecRequest), cancellationToken, EventStream);

    /// <summary>Whether an answer is a stream of events.</summary>
    public static bool IsEventStream(HttpResponseMessage response) => response.Content.Headers.ContentType?.MediaType == EventStream;

    /// <summary>Reads the answer of an older server that knows no streams.</summary>
    public static Task<ExecResponse> ReadExecAsync(HttpResponseMessage response, CancellationToken cancellationToken) =>
        ReadJsonAsync(response, PandoraJson.Default.ExecResponse, cancellationToken);

    /// <summary>Connects to a process by a WebSocket.</summary>
    public async Task<WebSocket> AttachAsync(string id, string process, long from, CancellationToken cancellationToken)
    {
        var address = new UriBuilder(new Uri(_base, $"{PathOf(id, process)}/attach"))
        {
            Query = string.Create(CultureInfo.InvariantCulture, $"from={from}"),
        };
        address.Scheme = address.Scheme == Uri.UriSchemeHttps ? Uri.UriSchemeWss : Uri.UriSchemeWs;
        var socket = new ClientWebSocket();
        socket.Options.AddSubProtocol(ProcessEvents.WebSocketProtocol);
        socket.Options.CollectHttpResponseDetails = true;
        socket.Options.KeepAliveInterval = TimeSpan.FromSeconds(15);
#if NET10_0_OR_GREATER
        socket.Options.KeepAliveTimeout = TimeSpan.FromSeconds(30);
#endif
        if (options.ApiKey is { } key)
        {
            socket.Options.SetRequestHeader("Authorization", $"Bearer {key}");
        }

        try
        {
            await socket.ConnectAsync(address.Uri, http, cancellationToken).ConfigureAwait(false);
            return socket;
        }
        catch (WebSocketException e)
        {
            var status = socket.HttpStatusCode;
            socket.Dispose();
            if (status is 0 or HttpStatusCode.SwitchingProtocols)
            {
                throw new ServerUnreachableException($"no connection to {url} for a terminal: {e.Message}", e);
            }

            // The refusal has no body that can be read: another request about the process gets its reason.
            await GetProcessAsync(id, process, cancellationToken).ConfigureAwait(false);
            var message = $"the server refused the terminal with HTTP {(int)status}";
            throw new PandoraApiException(message, new ApiProblem(Status: (int)status, Detail: message), innerException: e);
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    private static string PathOf(string id, string process) => $"{PathOf(id)}/processes/{Uri.EscapeDataString(process)}";
}
