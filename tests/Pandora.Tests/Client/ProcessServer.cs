using System.Globalization;
using System.Net.Sockets;
using System.Net.WebSockets;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization.Metadata;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Http;
using Pandora.Contracts;

namespace Pandora.Tests.Client;

/// <summary>
/// The routes of processes, on a port of loopback, with one <see cref="ScriptedProcess"/>. It cuts connections where a test says so.
/// </summary>
internal sealed partial class ProcessServer : IAsyncDisposable
{
    private readonly string _url;
    private WebApplication _app;
    private int _failures;

    private ProcessServer(WebApplication app) => (_app, _url) = (app, app.Urls.Single());

    public string Url => _url;

    public ScriptedProcess Process { get; } = new();

    /// <summary>Requests, as <c>GET /path?query</c>.</summary>
    public List<string> Requests { get; } = [];

    /// <summary>Bodies of the requests that have JSON, in their order.</summary>
    public List<string> Bodies { get; } = [];

    /// <summary>Bytes after which the next stream of output, or the next body of input, is cut.</summary>
    public Func<long> CutAfter { get; set; } = () => long.MaxValue;

    /// <summary>Most seconds that a command may be given; 0 is an older server, which does not say.</summary>
    public double MaxTimeout { get; set; } = 86400;

    /// <summary>The answer to <c>exec</c> of a server that knows no streams.</summary>
    public string? CollectedAnswer { get; set; }

    /// <summary>Whether a disconnect ends the command of <c>exec</c>, as with a server that lives.</summary>
    public bool EndsForeground { get; set; }

    /// <summary>Whether the next server knows the process.</summary>
    public bool KnowsProcess { get; set; } = true;

    public int Cuts { get; private set; }

    /// <summary>Answers the next requests with an error.</summary>
    public void FailNext(int count) => Volatile.Write(ref _failures, count);

    private async Task AnswerAsync(HttpContext context)
    {
        var (method, path) = (context.Request.Method, context.Request.Path.Value!);
        lock (Requests)
        {
            Requests.Add($"{method} {path}{context.Request.QueryString}");
        }

        if (Interlocked.Decrement(ref _failures) >= 0)
        {
            await ProblemAsync(context, ErrorCodes.Recovering);
            return;
        }

        if (context.Request.ContentType?.StartsWith("application/json", StringComparison.Ordinal) == true)
        {
            using var reader = new StreamReader(context.Request.Body);
            Bodies.Add(await reader.ReadToEndAsync());
        }

        var parts = path.Trim('/').Split('/');
        await (parts switch
        {
            ["health"] => JsonAsync(context, Health(), PandoraJson.Default.Health),
            ["sandboxes"] => JsonAsync(
                context, new SandboxCreated("abc", 0, "", true, 1, 60, "default"), PandoraJson.Default.SandboxCreated),
            ["sandboxes", _] when method == "DELETE" => JsonAsync(
                context, new Receipt("abc", "deleted", 1, 1, 1, [], 0, "none"), PandoraJson.Default.Receipt),
            ["sandboxes", var id] => JsonAsync(
                context, new SandboxInfo(id, 0, "", 1, 0, 60, 1, "default", "none", new Dictionary<string, string>()),
                PandoraJson.Default.SandboxInfo),
            ["sandboxes", _, "exec"] => ExecAsync(context),
            ["sandboxes", _, "processes"] when method == "POST" => CreateAsync(context),
            ["sandboxes", _, "processes"] => JsonAsync(context, [Process.State], PandoraJson.Default.ProcessStateArray),
            ["sandboxes", _, "processes", ScriptedProcess.Id, .. var rest] when KnowsProcess => AnswerOneAsync(context, method, rest),
            _ => ProblemAsync(context, ErrorCodes.ProcessNotFound),
        });
    }

    private Health Health() => new("ok", "1", 1, 1, 0, 1, "x", "x", "x", [], MaxTimeout, MaxTimeout);

    private Task AnswerOneAsync(HttpContext context, string method, string[] rest) => (rest, method) switch
    {
        ([], _) => JsonAsync(context, Process.State, PandoraJson.Default.ProcessState),
        (["wait"], _) => WaitAsync(context),
        (["output"], _) => OutputAsync(context),
        (["attach"], _) => AttachAsync(context),
        (["input"], "POST") => FeedAsync(context),
        (["input"], _) => DoAsync(context, Process.EndInput),
        (["signal"], _) when Process.Exit is not null => ProblemAsync(context, ErrorCodes.ProcessState),
        (["signal"], _) => DoAsync(
            context, () => Process.Signal(JsonSerializer.Deserialize(Bodies[^1], PandoraJson.Default.SignalRequest)!.Signal)),
        (["resize"], _) => DoAsync(
            context, () => Process.Size = JsonSerializer.Deserialize(Bodies[^1], PandoraJson.Default.TerminalSize)),
        _ => ProblemAsync(context, ErrorCodes.NotFound),
    };

    private Task CreateAsync(HttpContext context)
    {
        Process.Request = JsonSerializer.Deserialize(Bodies[^1], PandoraJson.Default.StartProcessRequest);
        context.Response.StatusCode = 201;
        return JsonAsync(context, Process.State, PandoraJson.Default.ProcessState);
    }

    private async Task ExecAsync(HttpContext context)
    {
        if (CollectedAnswer is { } answer)
        {
            context.Response.ContentType = "application/json";
            await context.Response.WriteAsync(answer);
            return;
        }

        Process.IsForeground = true;
        await OutputAsync(context);
        if (EndsForeground && Process.Exit is null)
        {
            Process.End(137);
        }
    }

    private async Task OutputAsync(HttpContext context)
    {
        var offset = long.TryParse(context.Request.Query["from"], CultureInfo.InvariantCulture, out var from) ? from : 0;
        offset = offset < 0 ? Process.State.OutputEnd : offset;
        var follows = context.Request.Query["follow"] != "false";
        context.Response.ContentType = "text/event-stream";
        var left = CutAfter();
        async Task<bool> SendAsync<T>(string name, long? id, T data, JsonTypeInfo<T> type)
        {
            var bytes = Encoding.UTF8.GetBytes(
                $"event: {name}\n{(id is null ? "" : $"id: {id}\n")}data: {JsonSerializer.Serialize(data, type)}\n\n");
            await context.Response.Body.WriteAsync(bytes.AsMemory(0, (int)Math.Min(left, bytes.Length)), context.RequestAborted);
            await context.Response.Body.FlushAsync(context.RequestAborted);
            left -= bytes.Length;
            if (left < 0)
            {
                await CutAsync(context);
            }

            return left >= 0;
        }

        try
        {
            var goesOn = await SendAsync(
                ProcessEvents.Started, null, new StartedEvent(ScriptedProcess.Id, 412, offset), PandoraJson.Default.StartedEvent);
            while (goesOn)
            {
                var changed = Process.Changed;
                if (Process.Next(offset) is { } piece)
                {
                    goesOn = piece.Name == ProcessEvents.Dropped
                        ? await SendAsync(
                            piece.Name, piece.EndOffset, new DroppedEvent(piece.Offset, piece.EndOffset), PandoraJson.Default.DroppedEvent)
                        : await SendAsync(
                            piece.Name, piece.EndOffset, new OutputEvent(piece.Offset, Convert.ToBase64String(piece.Bytes)),
                            PandoraJson.Default.OutputEvent);
                    offset = piece.EndOffset;
                }
                else if (Process.Exit is { } exit)
                {
                    await SendAsync(ProcessEvents.Exited, exit.Offset, exit, PandoraJson.Default.ExitedEvent);
                    return;
                }
                else if (!follows)
                {
                    await SendAsync(ProcessEvents.Paused, offset, new DroppedEvent(offset, offset), PandoraJson.Default.DroppedEvent);
                    return;
                }
                else
                {
                    await changed.WaitAsync(context.RequestAborted);
                }
            }
        }
        catch (Exception e) when (e is OperationCanceledException or IOException)
        {
            // The client or the server has gone.
        }
    }

    private async Task WaitAsync(HttpContext context)
    {
        var limit = TimeSpan.FromSeconds(double.Parse(context.Request.Query["timeout"]!, CultureInfo.InvariantCulture));
        while (Process.Exit is null)
        {
            var changed = Process.Changed;
            try
            {
                await (Process.Exit is null ? changed.WaitAsync(limit, TimeProvider.System, context.RequestAborted) : Task.CompletedTask);
            }
            catch (TimeoutException)
            {
                break;
            }
        }

        await JsonAsync(context, Process.State, PandoraJson.Default.ProcessState);
    }

    private async Task FeedAsync(HttpContext context)
    {
        var offset = long.Parse(context.Request.Query["offset"]!, CultureInfo.InvariantCulture);
        var (left, buffer) = (CutAfter(), new byte[16 * 1024]);
        while (true)
        {
            var length = await context.Request.Body.ReadAsync(buffer.AsMemory(0, (int)Math.Clamp(left, 1, buffer.Length)));
            if (length == 0)
            {
                context.Response.StatusCode = 204;
                return;
            }

            if (Process.Exit is not null || !Process.TryFeed(offset, buffer.AsSpan(0, length)))
            {
                await ProblemAsync(context, ErrorCodes.ProcessState);
                return;
            }

            (offset, left) = (offset + length, left - length);
            if (left <= 0)
            {
                await CutAsync(context);
                return;
            }
        }
    }

    private async Task AttachAsync(HttpContext context)
    {
        using var socket = await context.WebSockets.AcceptWebSocketAsync(ProcessEvents.WebSocketProtocol);
        var offset = long.Parse(context.Request.Query["from"]!, CultureInfo.InvariantCulture);
        offset = offset < 0 ? Process.State.OutputEnd : offset;
        var left = CutAfter();
        var reading = ReadFramesAsync(socket, context.RequestAborted);
        async Task SayAsync(AttachFrame frame) => await socket.SendAsync(
            JsonSerializer.SerializeToUtf8Bytes(frame, PandoraJson.Default.AttachFrame).AsMemory(), WebSocketMessageType.Text, true,
            context.RequestAborted);
        try
        {
            while (true)
            {
                var changed = Process.Changed;
                if (Process.Next(offset) is { } piece)
                {
                    await SayAsync(new("output", Stream: piece.Name, Offset: piece.Offset));
                    var length = (int)Math.Min(piece.Bytes.Length, left);
                    await socket.SendAsync(
                        piece.Bytes.AsMemory(0, length), WebSocketMessageType.Binary, true, context.RequestAborted);
                    (offset, left) = (piece.EndOffset, left - length);
                    if (length < piece.Bytes.Length)
                    {
                        await CutAsync(context);
                        break;
                    }
                }
                else if (Process.Exit is { } exit)
                {
                    await SayAsync(new("exited", Exit: exit));
                    await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, context.RequestAborted);
                    break;
                }
                else
                {
                    await changed.WaitAsync(context.RequestAborted);
                }
            }

            await reading;
        }
        catch (Exception e) when (e is OperationCanceledException or WebSocketException or IOException)
        {
            // The client or the server has gone.
        }
    }

    private async Task ReadFramesAsync(WebSocket socket, CancellationToken cancellationToken)
    {
        var buffer = new byte[16 * 1024];
        while (true)
        {
            var result = await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken);
            if (result.MessageType == WebSocketMessageType.Close)
            {
                return;
            }

            Process.TryFeed(Process.State.InputOffset, buffer.AsSpan(0, result.Count));
        }
    }

    // In turns as when a server is killed, and with a reset, which takes bytes along that the client has not read.
    private async Task CutAsync(HttpContext context)
    {
        if (++Cuts % 2 == 0)
        {
            context.Abort();
        }
        else
        {
            // The web server sends what was written a little later.
            await Task.Delay(TimeSpan.FromMilliseconds(20), TimeProvider.System);
            context.Features.Get<IConnectionSocketFeature>()!.Socket.Shutdown(SocketShutdown.Both);
        }
    }

    private static Task DoAsync(HttpContext context, Action action)
    {
        action();
        context.Response.StatusCode = 204;
        return Task.CompletedTask;
    }

    private static async Task JsonAsync<T>(HttpContext context, T body, JsonTypeInfo<T> type)
    {
        context.Response.ContentType = "application/json";
        await context.Response.WriteAsync(JsonSerializer.Serialize(body, type));
    }

    private static async Task ProblemAsync(HttpContext context, ErrorCode error)
    {
        context.Response.StatusCode = error.Status;
        if (error.RetryAfterSeconds is { } seconds)
        {
            context.Response.Headers.RetryAfter = seconds.ToString(CultureInfo.InvariantCulture);
        }

        context.Response.ContentType = "application/problem+json";
        var problem = new ApiProblem(error.Title, error.Status, error.Meaning, error.Code);
        await context.Response.WriteAsync(JsonSerializer.Serialize(problem, PandoraJson.Default.ApiProblem));
    }
}
