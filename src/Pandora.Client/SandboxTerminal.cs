using System.Net.WebSockets;
using System.Runtime.CompilerServices;
using System.Text.Json;
using Pandora.Contracts;

namespace Pandora.Client;

/// <summary>
/// A connection to the terminal of a process: keystrokes go there and its screen comes back, by a WebSocket. When the connection
/// breaks, <see cref="ReadOutputAsync"/> makes it again for <see cref="PandoraClientOptions.MaxReconnectTime"/>: no output is lost, and
/// input waits; input that was on its way may be lost. Disposing closes the connection; the process lives on. Members are virtual, so
/// that a test can replace them.
/// </summary>
public class SandboxTerminal : IAsyncDisposable
{
    private const int BufferSize = 64 * 1024;
    private static readonly TimeSpan CloseLimit = TimeSpan.FromSeconds(2);
    private readonly PandoraApi? _api;
    private readonly string _sandboxId = "";
    private readonly SemaphoreSlim _sending = new(1);
    private readonly object _changing = new();
    private TaskCompletionSource<WebSocket> _connected = NewConnection();
    private WebSocket? _socket;
    private long _next, _position;
    private ProcessOutputKind _kind;
    private int _reads;

    internal SandboxTerminal(PandoraApi api, string sandboxId, SandboxProcess process, long from) =>
        (_api, _sandboxId, Process, _next) = (api, sandboxId, process, from);

    /// <summary>For a class of a test that replaces members. The others throw <see cref="NotSupportedException"/>.</summary>
    /// <param name="process">The process.</param>
    protected SandboxTerminal(SandboxProcess process) => Process = process;

    /// <summary>The process, for its size, signals and state.</summary>
    public SandboxProcess Process { get; }

    /// <summary>How the process ended; null before <see cref="ReadOutputAsync"/> has come to its end.</summary>
    public ProcessResult? Result { get; private set; }

    private PandoraApi Api => _api ?? throw new NotSupportedException("this terminal has no client: replace the member in your test");

    /// <summary>Connects, and reads what the terminal shows, each byte once, until the process ends. It can be called once.</summary>
    /// <param name="cancellationToken">Ends the reading, and not the process.</param>
    /// <exception cref="PandoraApiException">The server does not know the process any more: code <c>process_not_found</c>.</exception>
    /// <exception cref="SandboxNotFoundException">The sandbox has ended.</exception>
    /// <exception cref="PandoraClientException">The connection failed for another reason.</exception>
    public virtual async IAsyncEnumerable<ProcessOutput> ReadOutputAsync(
        [EnumeratorCancellation] CancellationToken cancellationToken = default)
    {
        if (Interlocked.Increment(ref _reads) > 1)
        {
            throw new InvalidOperationException("the output of this terminal is read already");
        }

        var reconnection = new Reconnection(Api);
        var buffer = new byte[BufferSize];
        try
        {
            while (true)
            {
                var socket = await reconnection.RepeatAsync(() => ConnectAsync(cancellationToken), cancellationToken)
                    .ConfigureAwait(false);
                PandoraClientException cause;
                while (true)
                {
                    Message message;
                    try
                    {
                        message = await ReceiveAsync(socket, buffer, cancellationToken).ConfigureAwait(false);
                    }
                    catch (PandoraClientException e)
                    {
                        cause = e;
                        break;
                    }

                    if (message.Control?.Problem is { } problem)
                    {
                        cause = PandoraApiException.From(problem, retryAfter: null);
                        break;
                    }

                    reconnection.Worked();
                    foreach (var output in Take(message))
                    {
                        yield return output;
                    }

                    if (message.Control?.Exit is { } exit)
                    {
                        Result = ProcessResult.From(exit);
                        yield break;
                    }
                }

                Lose(socket);
                await reconnection.WaitAsync(cause, cancellationToken).ConfigureAwait(false);
            }
        }
        finally
        {
            End();
        }
    }

    /// <summary>Writes keystrokes, or other bytes. While the connection is down it waits for it; something must read the output.</summary>
    /// <param name="bytes">The bytes.</param>
    /// <param name="cancellationToken">Ends the wait.</param>
    /// <exception cref="PandoraApiException">The process has ended, or the connection could not be made again: code
    /// <c>process_state</c>.</exception>
    public virtual async Task WriteInputAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken = default)
    {
        _ = Api;
        await _sending.WaitAsync(cancellationToken).ConfigureAwait(false);
        try
        {
            while (true)
            {
                Task<WebSocket> connection;
                lock (_changing)
                {
                    connection = _connected.Task;
                }

                var socket = await connection.WaitAsync(cancellationToken).ConfigureAwait(false);
                try
                {
                    await socket.SendAsync(bytes, WebSocketMessageType.Binary, endOfMessage: true, cancellationToken).ConfigureAwait(false);
                    return;
                }
                catch (Exception e) when (e is WebSocketException or IOException or ObjectDisposedException or InvalidOperationException)
                {
                    Lose(socket);
                }
            }
        }
        finally
        {
            _sending.Release();
        }
    }

    /// <summary>Closes the connection. The process lives on.</summary>
    public virtual async ValueTask DisposeAsync()
    {
        if (_socket is { State: WebSocketState.Open } socket && _api is not null)
        {
            using var limit = new CancellationTokenSource(CloseLimit, _api.Time);
            try
            {
                await socket.CloseOutputAsync(WebSocketCloseStatus.NormalClosure, null, limit.Token).ConfigureAwait(false);
            }
            catch (Exception e) when (e is WebSocketException or IOException or OperationCanceledException or ObjectDisposedException)
            {
                // It is broken already.
            }
        }

        End();
        GC.SuppressFinalize(this);
    }

    private static TaskCompletionSource<WebSocket> NewConnection() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private static async Task<Message> ReceiveAsync(WebSocket socket, byte[] buffer, CancellationToken cancellationToken)
    {
        try
        {
            var result = await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken).ConfigureAwait(false);
            switch (result.MessageType)
            {
                case WebSocketMessageType.Binary:
                    return new(buffer.AsSpan(0, result.Count).ToArray(), null);
                case WebSocketMessageType.Close:
                    throw new UnexpectedAnswerException("the connection to the terminal was closed", new EndOfStreamException());
            }

            using var text = new MemoryStream();
            text.Write(buffer, 0, result.Count);
            while (!result.EndOfMessage)
            {
                result = await socket.ReceiveAsync(buffer.AsMemory(), cancellationToken).ConfigureAwait(false);
                text.Write(buffer, 0, result.Count);
            }

            return new(null, JsonSerializer.Deserialize(text.GetBuffer().AsSpan(0, (int)text.Length), PandoraJson.Default.AttachFrame));
        }
        catch (JsonException e)
        {
            throw PandoraApi.NotUnderstood(e.Message, e);
        }
        catch (Exception e) when (e is WebSocketException or IOException or ObjectDisposedException or InvalidOperationException)
        {
            throw new UnexpectedAnswerException($"the connection to the terminal broke: {e.Message}", e);
        }
        catch (OperationCanceledException e) when (!cancellationToken.IsCancellationRequested)
        {
            throw new UnexpectedAnswerException("the connection to the terminal broke", e);
        }
    }

    private IEnumerable<ProcessOutput> Take(Message message)
    {
        if (message.Control is { Offset: { } offset } control)
        {
            (_position, _kind) = (offset, control.Stream == ProcessEvents.Stderr ? ProcessOutputKind.Stderr : ProcessOutputKind.Stdout);
            if (_next >= 0 && offset > _next)
            {
                yield return new() { Kind = ProcessOutputKind.Dropped, Offset = _next, EndOffset = offset };
            }

            _next = Math.Max(_next, offset);
        }

        if (message.Bytes is { } bytes)
        {
            var known = (int)Math.Clamp(_next - _position, 0, bytes.Length);
            _position += bytes.Length;
            if (known < bytes.Length)
            {
                yield return new() { Kind = _kind, Offset = _next, EndOffset = _position, Bytes = bytes.AsMemory(known) };
                _next = _position;
            }
        }
    }

    private async Task<WebSocket> ConnectAsync(CancellationToken cancellationToken)
    {
        var socket = await Api.AttachAsync(_sandboxId, Process.Id, _next, cancellationToken).ConfigureAwait(false);
        lock (_changing)
        {
            _socket = socket;
            _connected.TrySetResult(socket);
        }

        return socket;
    }

    // Reader and writer both find out; the reader connects again.
    private void Lose(WebSocket socket)
    {
        lock (_changing)
        {
            if (ReferenceEquals(_socket, socket))
            {
                (_socket, _connected) = (null, NewConnection());
            }
        }

        socket.Abort();
        socket.Dispose();
    }

    private void End()
    {
        lock (_changing)
        {
            var problem = new ApiProblem(Status: ErrorCodes.ProcessState.Status, Code: ErrorCodes.ProcessState.Code);
            _connected = NewConnection();
            _connected.SetException(new PandoraApiException("the terminal is closed", problem));
            _ = _connected.Task.Exception;
            _socket?.Dispose();
            _socket = null;
        }
    }

    private readonly record struct Message(byte[]? Bytes, AttachFrame? Control);
}
