using System.Collections.Concurrent;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using Microsoft.Win32.SafeHandles;
using Pandora.Linux;

namespace Pandora.Vmm.Qemu;

/// <summary>
/// A client of QEMU's machine protocol (QMP) over its UNIX socket. Messages are lines of JSON, and an id matches each answer to its command
/// (QEMU documentation, interop/qmp-spec).
/// </summary>
internal sealed class QmpClient : IAsyncDisposable
{
    private const int MaxLine = 1024 * 1024;
    private readonly ConcurrentDictionary<string, TaskCompletionSource<JsonNode?>> _pending = new();
    private readonly SemaphoreSlim _writing = new(1, 1);
    private readonly Socket _socket;
    private readonly NetworkStream _stream;
    private readonly byte[] _buffer = new byte[4096];
    private readonly List<byte> _unread = [];
    private int _searched;
    private readonly Action<string, JsonNode?> _onEvent;
    private Task _reading = Task.CompletedTask;
    private int _lastId;

    private QmpClient(Socket socket, Action<string, JsonNode?> onEvent)
    {
        _socket = socket;
        _stream = new NetworkStream(socket, ownsSocket: true);
        _onEvent = onEvent;
    }

    /// <summary>Connects and negotiates. Tries again until the VMM has made its socket.</summary>
    /// <param name="path">Path of the socket.</param>
    /// <param name="onEvent">Called with the name and data of each event, in order; must not block.</param>
    /// <param name="time">Measures the pauses between attempts.</param>
    /// <param name="cancellationToken">Cancels the attempts.</param>
    public static async Task<QmpClient> ConnectAsync(
        string path, Action<string, JsonNode?> onEvent, TimeProvider time, CancellationToken cancellationToken)
    {
        while (true)
        {
            var socket = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
            try
            {
                await socket.ConnectAsync(new UnixDomainSocketEndPoint(path), cancellationToken);
                var client = new QmpClient(socket, onEvent);
                await client.NegotiateAsync(cancellationToken);
                return client;
            }
            catch (SocketException)
            {
                socket.Dispose();
                await Task.Delay(TimeSpan.FromMilliseconds(5), time, cancellationToken);
            }
            catch
            {
                socket.Dispose();
                throw;
            }
        }
    }

    /// <summary>Passes an open file to QEMU, under a name that later commands can use.</summary>
    /// <exception cref="VmmException">QEMU refused the file, or the connection is closed.</exception>
    public Task PassFileAsync(string name, SafeFileHandle file, CancellationToken cancellationToken) =>
        ExecuteAsync("getfd", new JsonObject { ["fdname"] = name }, file, cancellationToken);

    /// <summary>Runs a command and returns its answer.</summary>
    /// <exception cref="VmmException">QEMU refused the command, or the connection is closed.</exception>
    public Task<JsonNode?> ExecuteAsync(string command, JsonObject? arguments = null, CancellationToken cancellationToken = default) =>
        ExecuteAsync(command, arguments, file: null, cancellationToken);

    /// <inheritdoc/>
    public async ValueTask DisposeAsync()
    {
        _socket.Dispose();
        await _reading;
        await _stream.DisposeAsync();
        _writing.Dispose();
    }

    private async Task<JsonNode?> ExecuteAsync(
        string command, JsonObject? arguments, SafeFileHandle? file, CancellationToken cancellationToken)
    {
        var id = Interlocked.Increment(ref _lastId).ToString();
        var message = new JsonObject { ["execute"] = command, ["id"] = id };
        if (arguments is not null)
        {
            message["arguments"] = arguments;
        }

        var answer = new TaskCompletionSource<JsonNode?>(TaskCreationOptions.RunContinuationsAsynchronously);
        _pending[id] = answer;
        if (_reading.IsCompleted)
        {
            Fail();
        }

        try
        {
            await _writing.WaitAsync(cancellationToken);
            try
            {
                var bytes = JsonSerializer.SerializeToUtf8Bytes(message);
                if (file is null)
                {
                    await _stream.WriteAsync(bytes, cancellationToken);
                }
                else
                {
                    Libc.SendDescriptor((int)_socket.Handle, bytes, (int)file.DangerousGetHandle());
                }
            }
            finally
            {
                _writing.Release();
            }

            return await answer.Task.WaitAsync(cancellationToken);
        }
        catch (IOException e)
        {
            throw new VmmException($"QEMU's control connection broke during '{command}'", e);
        }
        finally
        {
            _pending.TryRemove(id, out _);
        }
    }

    private async Task NegotiateAsync(CancellationToken cancellationToken)
    {
        var greeting = await ReadAsync(cancellationToken);
        if ((greeting as JsonObject)?["QMP"] is null)
        {
            var answer = greeting?.ToJsonString() ?? "it closed the connection";
            throw new VmmException($"the program on QEMU's control socket does not speak QMP: {answer}");
        }

        _reading = ReadAllAsync();
        await ExecuteAsync("qmp_capabilities", cancellationToken: cancellationToken);
    }

    private async Task ReadAllAsync()
    {
        try
        {
            while (await ReadAsync(CancellationToken.None) is { } message)
            {
                if (message["event"]?.GetValue<string>() is { } name)
                {
                    _onEvent(name, message["data"]);
                }
                else if (message["id"]?.GetValue<string>() is { } id && _pending.TryGetValue(id, out var answer))
                {
                    if (message["error"] is { } error)
                    {
                        answer.TrySetException(new VmmException($"QEMU refused a command: {error["desc"]?.GetValue<string>()}"));
                    }
                    else
                    {
                        answer.TrySetResult(message["return"]);
                    }
                }
            }
        }
        catch (Exception e) when (e is IOException
            or ObjectDisposedException
            or SocketException
            or JsonException
            or VmmException
            or InvalidOperationException)
        {
            // The connection is closed, or its content is invalid and it cannot be used any more.
        }

        Fail();
    }

    private void Fail()
    {
        foreach (var (_, answer) in _pending)
        {
            answer.TrySetException(new VmmException("QEMU's control connection is closed"));
        }
    }

    private async Task<JsonNode?> ReadAsync(CancellationToken cancellationToken)
    {
        if (await ReadLineAsync(cancellationToken) is not { } line)
        {
            return null;
        }

        try
        {
            return JsonNode.Parse(line);
        }
        catch (JsonException e)
        {
            throw new VmmException($"QEMU sent a line that is not JSON: {e.Message}", e);
        }
    }

    // Lines are bounded: a guest that controls QEMU could send a line without an end.
    private async Task<string?> ReadLineAsync(CancellationToken cancellationToken)
    {
        while (true)
        {
            var end = _unread.IndexOf((byte)'\n', _searched);
            if (end >= 0)
            {
                var line = Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(_unread)[..end]);
                _unread.RemoveRange(0, end + 1);
                _searched = 0;
                return line;
            }

            _searched = _unread.Count;
            if (_searched > MaxLine)
            {
                throw new VmmException("QEMU sent a line of more than 1 MiB");
            }

            var count = await _stream.ReadAsync(_buffer, cancellationToken);
            if (count == 0)
            {
                return null;
            }

            _unread.AddRange(_buffer.AsSpan(0, count));
        }
    }
}
