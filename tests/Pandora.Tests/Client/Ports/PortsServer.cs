using System.Collections.Concurrent;
using System.Diagnostics;
using System.Diagnostics.CodeAnalysis;
using System.Net;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.Extensions.Logging;
using Pandora.Contracts;

namespace Pandora.Tests.Client.Ports;

/// <summary>
/// The routes of ports and of SSH, on a port of loopback, as the wire prescribes them: whatever else comes is noted as a fault. The guest's
/// ports are ports of this host.
/// </summary>
internal sealed class PortsServer : IAsyncDisposable
{
    public const string Id = "abcdefghij0123456789";
    public const string HostKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGuestKeyGuestKeyGuestKeyGuestKeyGuest0";
    private readonly WebApplication _app;
    private readonly CancellationTokenSource _ended = new();

    private PortsServer(WebApplication app) => _app = app;

    public string Url => _app.Urls.Single();

    /// <summary>The guest's ports, with the ports of this host that stand for them.</summary>
    public ConcurrentDictionary<int, int> Guest { get; } = [];

    /// <summary>What speaks on a WebSocket in a guest's place.</summary>
    public Func<WebSocket, Task>? Script { get; set; }

    /// <summary>What answers to a WebSocket's request in the server's place.</summary>
    public Func<HttpContext, Task>? Refusal { get; set; }

    /// <summary>The guest's SSH server: a stream for each connection.</summary>
    public Func<Stream>? Ssh { get; set; }

    public IReadOnlyList<string> SshKeys { get; set; } = [];

    public string SshHostKey { get; set; } = HostKey;

    /// <summary>The key that each request must have.</summary>
    public string? ApiKey { get; init; }

    /// <summary>Why the sandbox ended; null while it lives.</summary>
    public string? EndReason { get; private set; }

    /// <summary>Requests, as <c>GET /path</c>, with the body where there is one.</summary>
    public ConcurrentQueue<string> Requests { get; } = [];

    /// <summary>When the sandbox was asked for, as timestamps of this process.</summary>
    public ConcurrentQueue<long> Checks { get; } = [];

    /// <summary>What the wire does not allow.</summary>
    public ConcurrentQueue<string> Faults { get; } = [];

    /// <summary>Connections that are open.</summary>
    public int Open;

    public static async Task<PortsServer> StartAsync(string? apiKey = null)
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.WebHost.UseUrls("http://127.0.0.1:0");
        builder.Logging.ClearProviders();
        var app = builder.Build();
        var server = new PortsServer(app) { ApiKey = apiKey };
        app.UseWebSockets();
        app.Run(server.AnswerAsync);
        await app.StartAsync();
        return server;
    }

    /// <summary>A program of the guest that listens on a port.</summary>
    public TcpListener Listen(int port, Func<Socket, Task> serve)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start(1024);
        Guest[port] = ((IPEndPoint)listener.LocalEndpoint).Port;
        _ = Task.Run(async () =>
        {
            while (true)
            {
                var socket = await listener.AcceptSocketAsync();
                _ = Task.Run(async () =>
                {
                    using (socket)
                    {
                        await serve(socket);
                    }
                });
            }
        });
        return listener;
    }

    /// <summary>Ends the sandbox.</summary>
    public void End(string reason)
    {
        EndReason = reason;
        _ended.Cancel();
    }

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync();
        await _app.StopAsync(now.Token);
        await _app.DisposeAsync();
        _ended.Dispose();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        using var reader = new StreamReader(context.Request.Body);
        var body = context.Request.ContentType is null ? "" : await reader.ReadToEndAsync();
        Requests.Enqueue($"{context.Request.Method} {context.Request.Path}{(body.Length > 0 ? " " : "")}{body}");
        if (context.Request.Path == $"/sandboxes/{Id}")
        {
            Checks.Enqueue(Stopwatch.GetTimestamp());
        }

        if (ApiKey is not null && context.Request.Headers.Authorization != $"Bearer {ApiKey}")
        {
            await ProblemAsync(context, ErrorCodes.Unauthorized);
            return;
        }

        var parts = context.Request.Path.Value!.Trim('/').Split('/');
        await ((context.Request.Method, parts) switch
        {
            ("POST", ["sandboxes"]) => JsonAsync(
                context, new SandboxCreated(Id, 0, "", true, 1, 60, "default"), PandoraJson.Default.SandboxCreated),
            (_, ["sandboxes", var id, ..]) when id != Id => ProblemAsync(context, ErrorCodes.SandboxNotFound),
            _ when EndReason is not null => ProblemAsync(context, ErrorCodes.SandboxNotFound, EndReason),
            ("GET", [_, _]) or ("POST", [_, _, "keepalive"]) => JsonAsync(
                context, new SandboxInfo(Id, 0, "", 1, 0, 60, 1, "default", "none", new Dictionary<string, string>()),
                PandoraJson.Default.SandboxInfo),
            ("GET", [_, _, "ports"]) => JsonAsync(
                context,
                [new(22, ["0.0.0.0", "::"], false, UrlOf(22), 7, "s\u001bshd"), new(3000, [], true, UrlOf(3000))],
                PandoraJson.Default.PortInfoArray),
            ("PUT", [_, _, "ports", var port]) => JsonAsync(
                context,
                new PortAccess(
                    int.Parse(port), JsonSerializer.Deserialize(body, PandoraJson.Default.PortRequest)!.Public!.Value,
                    UrlOf(int.Parse(port))),
                PandoraJson.Default.PortAccess),
            ("POST", [_, _, "ports", var port, "links"]) => JsonAsync(
                context, new PortLink($"{UrlOf(int.Parse(port))}?pandora_link=x", DateTimeOffset.UnixEpoch),
                PandoraJson.Default.PortLink, 201),
            ("GET", [_, _, "ports", var port, "connect"]) => ConnectAsync(context, () => Dial(int.Parse(port))),
            ("GET", [_, _, "ssh"]) => ConnectAsync(context, () => Task.FromResult(Ssh?.Invoke())),
            ("GET", [_, _, "ssh-keys"]) => JsonAsync(context, new SshAccess(SshKeys, SshHostKey), PandoraJson.Default.SshAccess),
            ("PUT", [_, _, "ssh-keys"]) => SetKeysAsync(context, body),
            _ => ProblemAsync(context, ErrorCodes.NotFound),
        });
    }

    private string UrlOf(int port) => $"http://{port}-{Id}.localhost:{new Uri(Url).Port}/";

    private Task SetKeysAsync(HttpContext context, string body)
    {
        SshKeys = JsonSerializer.Deserialize(body, PandoraJson.Default.SshKeysRequest)!.Keys;
        return JsonAsync(context, new SshAccess(SshKeys, SshHostKey), PandoraJson.Default.SshAccess);
    }

    [SuppressMessage("Reliability", "CA2000", Justification = "The stream owns the socket, and the caller the stream")]
    private async Task<Stream?> Dial(int port)
    {
        if (!Guest.TryGetValue(port, out var local))
        {
            return null;
        }

        var socket = new Socket(SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        await socket.ConnectAsync(IPAddress.Loopback, local);
        return new NetworkStream(socket, ownsSocket: true);
    }

    private async Task ConnectAsync(HttpContext context, Func<Task<Stream?>> dial)
    {
        if (Refusal is not null)
        {
            await Refusal(context);
            return;
        }

        if (!context.WebSockets.IsWebSocketRequest || !context.WebSockets.WebSocketRequestedProtocols.Contains(PortSockets.Protocol))
        {
            Faults.Enqueue("no WebSocket of the subprotocol");
            await ProblemAsync(context, ErrorCodes.InvalidRequest);
            return;
        }

        await using var guest = Script is null ? await dial() : null;
        if (guest is null && Script is null)
        {
            await ProblemAsync(context, ErrorCodes.PortClosed);
            return;
        }

        using var socket = await context.WebSockets.AcceptWebSocketAsync(PortSockets.Protocol);
        Interlocked.Increment(ref Open);
        try
        {
            await (Script is null ? PumpAsync(socket, guest!) : Script(socket));
        }
        catch (Exception e) when (e is WebSocketException or IOException or OperationCanceledException)
        {
            // The client has gone.
        }
        finally
        {
            Interlocked.Decrement(ref Open);
        }
    }

    private async Task PumpAsync(WebSocket socket, Stream guest)
    {
        using var stop = CancellationTokenSource.CreateLinkedTokenSource(_ended.Token);
        var reason = "";
        async Task RunAsync(Func<Task> copy)
        {
            try
            {
                await copy();
            }
            catch (Exception e) when (e is IOException or SocketException)
            {
                reason = $"the guest's connection broke: {e.Message}";
                await stop.CancelAsync();
            }
        }

        // The receiving is not cancelled: that would end the WebSocket without a word.
        var upEnded = new TaskCompletionSource();
        var up = RunAsync(() => UpAsync(socket, guest, upEnded.SetResult));
        var down = RunAsync(() => DownAsync(socket, guest, stop.Token));
        var ended = Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, stop.Token);
        await Task.WhenAny(Task.WhenAll(upEnded.Task, down), up, ended);
        if (socket.State == WebSocketState.Open && (EndReason is not null || reason.Length > 0))
        {
            await down.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await socket.CloseOutputAsync(WebSocketCloseStatus.InternalServerError, EndReason ?? reason, CancellationToken.None);
        }
        else if (socket.State == WebSocketState.Open)
        {
            await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, CancellationToken.None);
        }

        await up.WaitAsync(TimeSpan.FromSeconds(2)).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
    }

    private async Task UpAsync(WebSocket socket, Stream guest, Action end)
    {
        var (buffer, hasEnded, message) = (new byte[16 * 1024], false, 0);
        while (true)
        {
            var result = await socket.ReceiveAsync(buffer.AsMemory(), CancellationToken.None);
            if (result.MessageType == WebSocketMessageType.Close)
            {
                // Without an end of both directions, a close is one of the guest's connection, too.
                guest.Close();
                return;
            }

            message += result.Count;
            if (result.MessageType == WebSocketMessageType.Text || hasEnded)
            {
                Faults.Enqueue(hasEnded ? "bytes after the end" : "text");
            }
            else if (result.EndOfMessage && message == 0)
            {
                hasEnded = true;
                End(guest);
                end();
            }
            else
            {
                await guest.WriteAsync(buffer.AsMemory(0, result.Count));
            }

            message = result.EndOfMessage ? 0 : message;
        }
    }

    private static async Task DownAsync(WebSocket socket, Stream guest, CancellationToken cancellationToken)
    {
        var buffer = new byte[32 * 1024];
        int length;
        do
        {
            length = await guest.ReadAsync(buffer.AsMemory(), cancellationToken);
            await socket.SendAsync(buffer.AsMemory(0, length), WebSocketMessageType.Binary, endOfMessage: true, CancellationToken.None);
        }
        while (length > 0);
    }

    private static void End(Stream guest)
    {
        if (guest is NetworkStream network)
        {
            network.Socket.Shutdown(SocketShutdown.Send);
        }
        else
        {
            guest.Close();
        }
    }

    private static async Task JsonAsync<T>(HttpContext context, T body, JsonTypeInfo<T> type, int status = 200)
    {
        (context.Response.StatusCode, context.Response.ContentType) = (status, "application/json");
        await context.Response.WriteAsync(JsonSerializer.Serialize(body, type));
    }

    public static async Task ProblemAsync(HttpContext context, ErrorCode error, string? detail = null)
    {
        (context.Response.StatusCode, context.Response.ContentType) = (error.Status, "application/problem+json");
        var problem = new ApiProblem(error.Title, error.Status, detail ?? error.Meaning, error.Code);
        await context.Response.WriteAsync(JsonSerializer.Serialize(problem, PandoraJson.Default.ApiProblem));
    }
}
