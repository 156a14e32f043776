using System.Text;
using Pandora.Agent.Protocol.Channel;

namespace Pandora.Tests.Guests;

/// <summary>
/// A guest's end of the channel: the real one, over a connection in memory. What the server writes is handled at once, in the caller.
/// </summary>
internal sealed class ChannelAgent
{
    private readonly Lock _lock = new();
    private readonly int _window;
    private readonly List<ChannelStream> _streams = [];
    private FrameReader _reader = new();
    private ChannelEnd _end;
    private Action<ReadOnlyMemory<byte>>? _deliver;

    public ChannelAgent(int window = 256 * 1024)
    {
        _window = window;
        _end = new ChannelEnd(isHost: false, window);
    }

    /// <summary>Called for each stream that is opened or has changed, under the lock.</summary>
    public Action<ChannelStream>? Changed { get; set; }

    /// <summary>Takes the frames instead of the channel's end.</summary>
    public Action<ChannelFrame>? Hostile { get; set; }

    public Wire Connect()
    {
        var wire = new Wire(this);
        _deliver = wire.Deliver;
        return wire;
    }

    /// <summary>Does something to the agent's end, then sends what is to be sent.</summary>
    public void Do(Action<ChannelEnd, IReadOnlyList<ChannelStream>> act)
    {
        lock (_lock)
        {
            act(_end, _streams);
            Pump();
        }
    }

    public T Get<T>(Func<ChannelEnd, IReadOnlyList<ChannelStream>, T> get)
    {
        lock (_lock)
        {
            return get(_end, _streams);
        }
    }

    /// <summary>The agent dies and PID 1 starts it again; nothing that it knew is left.</summary>
    public void Restart() => Do((_, _) =>
    {
        _end = new ChannelEnd(isHost: false, _window);
        _reader = new FrameReader();
        _streams.Clear();
        _end.Announce();
    });

    public void Send(ChannelFrame frame)
    {
        var wire = new byte[frame.Size];
        frame.Write(wire);
        _deliver!(wire);
    }

    public void Receive(ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            while (!bytes.IsEmpty)
            {
                var room = _reader.Room.Span;
                var count = Math.Min(room.Length, bytes.Length);
                bytes[..count].CopyTo(room);
                bytes = bytes[count..];
                _reader.Received(count);
                while (_reader.TryRead(out var frame))
                {
                    if (Hostile is { } hostile)
                    {
                        hostile(frame with { Body = frame.Body.ToArray() });
                    }
                    else
                    {
                        _end.Receive(frame);
                    }
                }
            }

            Pump();
        }
    }

    public static string Text(ChannelStream stream)
    {
        var bytes = new byte[stream.Available];
        return Encoding.UTF8.GetString(bytes, 0, stream.Read(bytes));
    }

    private void Pump()
    {
        while (_end.Accept() is { } opened)
        {
            _streams.Add(opened);
            Changed?.Invoke(opened);
        }

        while (_end.TakeChanged() is { } changed)
        {
            Changed?.Invoke(changed);
        }

        while (_end.TryNext(out var frame))
        {
            var wire = new byte[frame.Size];
            frame.Write(wire);
            _deliver!(wire);
        }
    }
}

/// <summary>The server's side of a connection in memory. It fails the test when it is used as no connection may be used.</summary>
internal sealed class Wire(ChannelAgent agent) : Stream
{
    private readonly Lock _lock = new();
    private readonly Queue<ReadOnlyMemory<byte>> _toServer = new();
    private TaskCompletionSource? _reading;
    private TaskCompletionSource? _stall;
    private int _readers, _writers;
    private bool _isEnded, _isDisposed;

    /// <summary>Most bytes of one read.</summary>
    public Func<int> MostRead { get; set; } = () => int.MaxValue;

    /// <summary>Bytes after which a write fails; what was written before them has arrived.</summary>
    public long FailAfter { get; set; } = long.MaxValue;

    /// <summary>When set, reads return its bytes without end.</summary>
    public byte[]? Flood { get; set; }

    /// <summary>Bytes that the server has read.</summary>
    public long Taken { get; private set; }

    /// <summary>Bytes that the server has written.</summary>
    public long Written { get; private set; }

    /// <summary>The first bytes that the server has written.</summary>
    public List<byte> First { get; } = [];

    public bool IsDisposed => _isDisposed;

    /// <summary>What was done wrong.</summary>
    public string? Misuse { get; private set; }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => true;

    public override long Length => throw new NotSupportedException();

    public override long Position
    {
        get => throw new NotSupportedException();
        set => throw new NotSupportedException();
    }

    public void Deliver(ReadOnlyMemory<byte> bytes)
    {
        lock (_lock)
        {
            _toServer.Enqueue(bytes);
            Interlocked.Exchange(ref _reading, null)?.TrySetResult();
        }
    }

    /// <summary>The other side closes.</summary>
    public void End()
    {
        lock (_lock)
        {
            _isEnded = true;
            Interlocked.Exchange(ref _reading, null)?.TrySetResult();
        }
    }

    /// <summary>Writes wait from now on, until the result is disposed of.</summary>
    public void Stall() => _stall = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);

    public void Go() => Interlocked.Exchange(ref _stall, null)?.TrySetResult();

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Use(ref _readers, buffer.Length > 0);
        try
        {
            while (true)
            {
                Task waiting;
                lock (_lock)
                {
                    cancellationToken.ThrowIfCancellationRequested();
                    if (Flood is { } flood)
                    {
                        var all = Math.Min(buffer.Length, flood.Length);
                        flood.AsSpan(0, all).CopyTo(buffer.Span);
                        Taken += all;
                        return all;
                    }

                    if (_toServer.TryPeek(out var first))
                    {
                        var count = Math.Min(Math.Min(buffer.Length, first.Length), MostRead());
                        first[..count].CopyTo(buffer);
                        _toServer.Dequeue();
                        if (count < first.Length)
                        {
                            var rest = _toServer.ToArray();
                            _toServer.Clear();
                            _toServer.Enqueue(first[count..]);
                            Array.ForEach(rest, _toServer.Enqueue);
                        }

                        Taken += count;
                        return count;
                    }

                    if (_isEnded)
                    {
                        return 0;
                    }

                    _reading = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
                    waiting = _reading.Task;
                }

                await waiting.WaitAsync(cancellationToken);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _readers);
        }
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> buffer, CancellationToken cancellationToken = default)
    {
        Use(ref _writers, !buffer.IsEmpty);
        try
        {
            if (_stall is { } stall)
            {
                await stall.Task.WaitAsync(cancellationToken);
            }

            var count = (int)Math.Min(buffer.Length, FailAfter);
            FailAfter -= FailAfter == long.MaxValue ? 0 : count;
            if (First.Count < ChannelFrame.MaxSize)
            {
                First.AddRange(buffer[..count].ToArray());
            }

            Written += count;
            agent.Receive(buffer.Span[..count]);
            if (count < buffer.Length)
            {
                throw new IOException("the connection was cut");
            }
        }
        finally
        {
            Interlocked.Decrement(ref _writers);
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override void Flush() => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        _isDisposed = true;
        base.Dispose(disposing);
    }

    private void Use(ref int users, bool hasBytes)
    {
        ObjectDisposedException.ThrowIf(_isDisposed, this);
        var count = Interlocked.Increment(ref users);
        Misuse ??= count > 1 ? "two at a time" : hasBytes ? null : "no bytes";
    }
}
