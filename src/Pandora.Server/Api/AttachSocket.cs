using System.IO.Pipelines;
using System.Net.WebSockets;
using System.Text.Json;
using Pandora.Contracts;
using Pandora.Engine;
using Pandora.Engine.Guests;
using Pandora.Engine.Sandboxes;

namespace Pandora.Server.Api;

/// <summary>A client that is attached to a process by a WebSocket: <see cref="AttachFrame"/> has its text frames.</summary>
/// <param name="process">The process, which is disposed of at the end.</param>
internal sealed class AttachSocket(SandboxProcess process) : IResult
{
    // Input that waits for a program that does not read. While less waits, pings are answered.
    private const int MaxText = 4096, MaxInput = 1024 * 1024;
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(5);
    private bool _isInputEnded;

    /// <inheritdoc/>
    public async Task ExecuteAsync(HttpContext httpContext)
    {
        await using var disposing = process.ConfigureAwait(false);
        using var socket = await httpContext.WebSockets.AcceptWebSocketAsync(
            new WebSocketAcceptContext { SubProtocol = ProcessEvents.WebSocketProtocol });
        var services = httpContext.RequestServices;
        using var over = CancellationTokenSource.CreateLinkedTokenSource(httpContext.RequestAborted);
        using var left = CancellationTokenSource.CreateLinkedTokenSource(over.Token);
        var input = new Pipe(new PipeOptions(pauseWriterThreshold: MaxInput, resumeWriterThreshold: MaxInput / 2));
        var receiving = ReceiveAsync(socket, input.Writer, over.Token);
        var feeding = FeedAsync(input.Reader, over.Token);
        var sending = SendAsync(socket, services.GetRequiredService<Problems>(), left.Token, over.Token);
        try
        {
            await Task.WhenAny(sending, receiving);
            // The other direction ends, too, and both sides close: a connection that is reset could lose what was sent last.
            using var limit = new CancellationTokenSource(CloseLimit, services.GetRequiredService<TimeProvider>());
            using var cutting = limit.Token.Register(over.Cancel);
            if (receiving.IsCompleted)
            {
                // What the client sent before it left.
                await input.Writer.CompleteAsync();
                await feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await left.CancelAsync();
                var refusal = await receiving;
                await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
                await process.DisposeAsync();
                await CloseAsync(socket, refusal, over.Token);
                if (refusal is not null)
                {
                    await ReadToCloseAsync(socket, over.Token);
                }
            }
            else
            {
                await sending;
                await process.DisposeAsync();
                await receiving;
            }
        }
        catch (Exception e) when (e is WebSocketException or OperationCanceledException or IOException)
        {
            // The client is gone.
        }
        finally
        {
            await over.CancelAsync();
            await sending.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await ((Task)receiving).ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
            await feeding.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        }
    }

    private async Task FeedAsync(PipeReader input, CancellationToken cancellationToken)
    {
        while (true)
        {
            var read = await input.ReadAsync(cancellationToken);
            foreach (var piece in read.Buffer)
            {
                await WriteInputAsync(piece, cancellationToken);
            }

            input.AdvanceTo(read.Buffer.End);
            if (read.IsCompleted)
            {
                if (_isInputEnded)
                {
                    await process.EndInputAsync(cancellationToken);
                }

                return;
            }
        }
    }

    private async Task SendAsync(
        WebSocket socket, Problems problems, CancellationToken whileRead, CancellationToken cancellationToken)
    {
        try
        {
            var (offset, stream) = (-1L, default(OutputStream));
            while (await process.ReadAsync(whileRead) is { } output)
            {
                if (output.Offset != offset || output.Stream != stream)
                {
                    (offset, stream) = (output.Offset, output.Stream);
                    var name = stream == OutputStream.Stdout ? ProcessEvents.Stdout : ProcessEvents.Stderr;
                    await SendTextAsync(socket, new AttachFrame("output", Stream: name, Offset: offset), cancellationToken);
                }

                await socket.SendAsync(output.Bytes, WebSocketMessageType.Binary, endOfMessage: true, cancellationToken);
                offset += output.Bytes.Length;
            }

            var exit = EventStream.ExitOf(process.End!, offset, process);
            await SendTextAsync(socket, new AttachFrame("exited", Exit: exit), cancellationToken);
            await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, "the process has ended", cancellationToken);
        }
        catch (Exception e) when (e is not (WebSocketException or OperationCanceledException or IOException))
        {
            await SendTextAsync(socket, new AttachFrame("error", Problem: problems.Describe(e)), cancellationToken);
            await socket.CloseOutputAsync(WebSocketCloseStatus.EndpointUnavailable, "the stream cannot go on", cancellationToken);
        }
    }

    private static Task SendTextAsync(WebSocket socket, AttachFrame frame, CancellationToken cancellationToken) => socket.SendAsync(
        JsonSerializer.SerializeToUtf8Bytes(frame, PandoraJson.Default.AttachFrame).AsMemory(), WebSocketMessageType.Text,
        endOfMessage: true, cancellationToken).AsTask();

    // Until the client closes: then the result is null. Otherwise it says how the client broke the protocol.
    private async Task<Refusal?> ReceiveAsync(WebSocket socket, PipeWriter input, CancellationToken cancellationToken)
    {
        var buffer = new byte[16 * 1024];
        var text = 0;
        while (true)
        {
            var room = text > 0 ? buffer.AsMemory(text, MaxText - text) : buffer;
            var received = await socket.ReceiveAsync(room, cancellationToken);
            if (received.MessageType == WebSocketMessageType.Close)
            {
                return null;
            }

            if (received.MessageType == WebSocketMessageType.Binary)
            {
                if (!process.Facts.HasInput || _isInputEnded)
                {
                    return new Refusal(WebSocketCloseStatus.PolicyViolation, "the process has no input, or no more");
                }

                await input.WriteAsync(buffer.AsMemory(0, received.Count), cancellationToken);
                continue;
            }

            text += received.Count;
            if (!received.EndOfMessage && text < MaxText)
            {
                continue;
            }

            if (text > MaxText || !received.EndOfMessage || !TryAct(buffer.AsMemory(0, text), out var endsInput, cancellationToken))
            {
                return new Refusal(WebSocketCloseStatus.InvalidPayloadData, "a text frame that means nothing");
            }

            text = 0;
            if (endsInput && !_isInputEnded)
            {
                // After the input that waits.
                _isInputEnded = true;
                await input.CompleteAsync();
            }
        }
    }

    private async Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        try
        {
            await process.WriteInputAsync(bytes, cancellationToken);
        }
        catch (Exception e) when (e is PandoraException or ObjectDisposedException)
        {
            // The process has ended, or the guest is lost: the sender says so.
        }
    }

    private static async Task ReadToCloseAsync(WebSocket socket, CancellationToken cancellationToken)
    {
        var buffer = new byte[16 * 1024];
        while ((await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken)).MessageType != WebSocketMessageType.Close)
        {
            // It was on its way.
        }
    }

    private static Task CloseAsync(WebSocket socket, Refusal? refusal, CancellationToken cancellationToken) =>
        socket.State is WebSocketState.Open or WebSocketState.CloseReceived
            ? socket.CloseOutputAsync(
                refusal?.Status ?? WebSocketCloseStatus.NormalClosure, refusal?.Words ?? "the client closed", cancellationToken)
            : Task.CompletedTask;

    private bool TryAct(ReadOnlyMemory<byte> text, out bool endsInput, CancellationToken cancellationToken)
    {
        endsInput = false;
        try
        {
            switch (JsonSerializer.Deserialize(text.Span, PandoraJson.Default.AttachFrame))
            {
                case { Type: "resize", Columns: > 0 and <= ushort.MaxValue, Rows: > 0 and <= ushort.MaxValue } resize:
                    Forget(process.ResizeAsync(resize.Columns.Value, resize.Rows.Value, cancellationToken));
                    return true;
                case { Type: "signal" } signal:
                    Forget(process.SignalAsync(SignalNames.Parse(signal.Signal), cancellationToken));
                    return true;
                case { Type: "end_input" }:
                    endsInput = true;
                    return true;
                default:
                    return false;
            }
        }
        catch (Exception e) when (e is JsonException or PandoraException)
        {
            return false;
        }
    }

    // The answer comes among the output. When the guest is lost, the sender says so.
    private static void Forget(Task acting) => _ = acting.ContinueWith(
        t => _ = t.Exception, CancellationToken.None, TaskContinuationOptions.OnlyOnFaulted, TaskScheduler.Default);

    private sealed record Refusal(WebSocketCloseStatus Status, string Words);
}
