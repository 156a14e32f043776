using System.Security.Cryptography;
using Microsoft.Extensions.Logging;
using Pandora.Agent.Protocol.Channel;

namespace Pandora.Engine.Guests.Agent;

/// <summary>
/// Many streams over one connection: QEMU's virtio-serial port, or an SSH session. One task reads. The caller that has something to send
/// writes it, unless another caller writes at that time: then that one writes it, too. Nothing waits under the lock.
/// </summary>
internal sealed partial class ChannelConnection : AgentConnection
{
    // A guest that sends what is no part of a stream is read slowly: it must not cost the host more than the guest.
    private const int MostUnexpected = 256 * 1024;
    private static readonly TimeSpan SlowPause = TimeSpan.FromMilliseconds(100), RenewPause = TimeSpan.FromSeconds(1);
    private readonly Lock _lock = new();
    private readonly ChannelEnd _end = new(isHost: true);
    private readonly FrameReader _reader = new();
    private readonly byte[] _out = new byte[4 * ChannelFrame.MaxSize];
    private readonly Dictionary<uint, Pipe> _pipes = [];
    private readonly Stream _transport;
    private readonly TimeProvider _time;
    private readonly ILogger _logger;
    private readonly string _id;
    private readonly CancellationTokenSource _closing = new();
    private readonly Task _reading;
    private TaskCompletionSource _isConnected = NewSignal();
    private TaskCompletionSource _isQuiet = NewSignal();
    private volatile string? _broken;
    private long _renewedAt;
    private int _unexpected, _toSend, _isDisposed;
    private bool _mustRenew;

    /// <param name="transport">The connection, which is disposed of with this.</param>
    /// <param name="id">The microVM's id, for the log.</param>
    /// <param name="time">Clock of the pauses.</param>
    /// <param name="logger">Receives what the guest did wrong.</param>
    public ChannelConnection(Stream transport, string id, TimeProvider time, ILogger logger)
    {
        (_transport, _id, _time, _logger) = (transport, id, time, logger);
        _end.Connect(NewEpoch());
        // The padding is first: what came before it may be the beginning of a frame of an earlier server.
        Send(FrameReader.Padding);
        _reading = ReadAsync();
    }

    /// <summary>Whether the connection has ended, so that it serves no more streams.</summary>
    public bool IsBroken => _broken is not null;

    /// <inheritdoc/>
    public override Task WaitAsync(CancellationToken cancellationToken)
    {
        lock (_lock)
        {
            return _broken is null ? _isConnected.Task.WaitAsync(cancellationToken) : Task.FromException(new IOException(_broken));
        }
    }

    /// <inheritdoc/>
    public override Task<AgentStream> OpenAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        Pipe pipe;
        var first = request[..Math.Min(request.Length, ChannelFrame.MaxBody)];
        lock (_lock)
        {
            if (_broken is not null)
            {
                throw new IOException(_broken);
            }

            var stream = _end.Open(first.Span) ?? throw new IOException("too many streams to the guest are open");
            pipe = new Pipe(this, stream);
            _pipes.Add(stream.Id, pipe);
            _unexpected = 0;
        }

        Send();
        return first.Length == request.Length
            ? Task.FromResult<AgentStream>(pipe)
            : WriteRestAsync(pipe, request[first.Length..], cancellationToken);
    }

    /// <inheritdoc/>
    public override async Task QuiesceAsync(CancellationToken cancellationToken)
    {
        await WaitAsync(cancellationToken);
        Task isQuiet;
        lock (_lock)
        {
            if (_end.Streams.Count > 0)
            {
                throw new InvalidOperationException($"{_end.Streams.Count} streams to the guest are open");
            }

            if (_broken is not null || !_end.IsConnected)
            {
                throw new IOException(_broken ?? "the guest's agent does not answer");
            }

            if (_end.IsQuiet)
            {
                return;
            }

            _isQuiet = _isQuiet.Task.IsCompleted ? NewSignal() : _isQuiet;
            isQuiet = _isQuiet.Task;
            _end.Quiesce();
        }

        Send();
        await isQuiet.WaitAsync(cancellationToken);
    }

    /// <inheritdoc/>
    public override async ValueTask DisposeAsync()
    {
        Break("the server has closed the connection to the guest");
        if (Interlocked.Exchange(ref _isDisposed, 1) == 1)
        {
            return;
        }

        await _closing.CancelAsync();
        await _transport.DisposeAsync();
        await _reading.ConfigureAwait(ConfigureAwaitOptions.SuppressThrowing);
        _closing.Dispose();
    }

    private static async Task<AgentStream> WriteRestAsync(Pipe pipe, ReadOnlyMemory<byte> rest, CancellationToken cancellationToken)
    {
        try
        {
            await pipe.WriteAsync(rest, cancellationToken);
            return pipe;
        }
        catch
        {
            pipe.Close(mustForget: false);
            throw;
        }
    }

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    // No program in the guest knows it.
    private static ulong NewEpoch() => BitConverter.ToUInt64(RandomNumberGenerator.GetBytes(8)) | 1;

    private async Task ReadAsync()
    {
        try
        {
            while (await _transport.ReadAsync(_reader.Room, _closing.Token) is var count && count > 0)
            {
                _reader.Received(count);
                List<Pipe> changed = [];
                lock (_lock)
                {
                    while (_reader.TryRead(out var frame))
                    {
                        _end.Receive(frame);
                    }

                    TakeChanged(changed);
                    _unexpected = changed.Count > 0 ? 0 : _unexpected + count;
                }

                changed.ForEach(p => p.Wake());
                await RenewIfNeededAsync();
                Send();
                if (_unexpected > MostUnexpected)
                {
                    await Task.Delay(SlowPause, _time, _closing.Token);
                }
            }

            Break("the connection to the guest's agent was closed");
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or OperationCanceledException)
        {
            Break($"the connection to the guest's agent broke: {e.Message}");
        }
    }

    private void TakeChanged(List<Pipe> changed)
    {
        while (_end.TakeChanged() is { } stream)
        {
            if (_pipes.TryGetValue(stream.Id, out var pipe))
            {
                changed.Add(pipe);
            }
        }

        if (_end.IsConnected)
        {
            _isConnected.TrySetResult();
        }

        if (_end.IsQuiet)
        {
            _isQuiet.TrySetResult();
        }

        _mustRenew = _end.MustConnect || _end.Fault is not null;
    }

    // The agent was started anew, or sent what cannot be. Streams end where the agent no longer has them.
    private async Task RenewIfNeededAsync()
    {
        if (!_mustRenew)
        {
            return;
        }

        if (_end.Fault is { } fault)
        {
            LogFault(_id, fault);
        }

        var wait = RenewPause - _time.GetElapsedTime(_renewedAt);
        if (_renewedAt != 0 && wait > TimeSpan.Zero)
        {
            await Task.Delay(wait, _time, _closing.Token);
        }

        List<Pipe> changed = [];
        lock (_lock)
        {
            _renewedAt = _time.GetTimestamp();
            if (_end.Fault is not null)
            {
                foreach (var stream in _end.Streams.ToList())
                {
                    _end.Reset(stream, "the guest's agent sent what cannot be");
                    changed.Add(_pipes[stream.Id]);
                }
            }

            _isConnected = _isConnected.Task.IsCompleted ? NewSignal() : _isConnected;
            _isQuiet.TrySetException(new IOException("the guest's agent was started again"));
            _ = _isQuiet.Task.Exception;
            _end.Connect(NewEpoch());
        }

        changed.ForEach(p => p.Wake());
    }

    private void Send(ReadOnlyMemory<byte> first = default)
    {
        if (Interlocked.Increment(ref _toSend) == 1)
        {
            _ = SendAsync(first);
        }
    }

    private async Task SendAsync(ReadOnlyMemory<byte> first)
    {
        try
        {
            if (!first.IsEmpty)
            {
                await _transport.WriteAsync(first, _closing.Token);
            }

            int seen;
            do
            {
                seen = Volatile.Read(ref _toSend);
                while (Fill() is var length && length > 0)
                {
                    await _transport.WriteAsync(_out.AsMemory(0, length), _closing.Token);
                }
            }
            while (Interlocked.Add(ref _toSend, -seen) != 0);
        }
        catch (Exception e) when (e is IOException or ObjectDisposedException or OperationCanceledException)
        {
            Break($"the connection to the guest's agent broke: {e.Message}");
        }
    }

    private int Fill()
    {
        lock (_lock)
        {
            var length = 0;
            while (_out.Length - length >= ChannelFrame.MaxSize && _end.TryNext(out var frame))
            {
                frame.Write(_out.AsSpan(length));
                length += frame.Size;
            }

            return length;
        }
    }

    private void Break(string reason)
    {
        List<Pipe> pipes;
        lock (_lock)
        {
            _broken ??= reason;
            _isConnected.TrySetException(new IOException(reason));
            _isQuiet.TrySetException(new IOException(reason));
            _ = _isConnected.Task.Exception;
            _ = _isQuiet.Task.Exception;
            pipes = [.. _pipes.Values];
        }

        pipes.ForEach(p => p.Wake());
    }

    [LoggerMessage(Level = LogLevel.Warning, Message = "The agent of microVM {Id} sent what cannot be: {Fault}. Its commands are given up")]
    private partial void LogFault(string id, string fault);
}
