using Pandora.Agent.Protocol.Processes;
using Pandora.Engine.Guests.Agent;

namespace Pandora.Tests.Guests;

/// <summary>A connection to an agent that does what a test says.</summary>
/// <param name="answer">Called with each message that the server sends: in the call that sends it.</param>
internal sealed class ScriptedConnection(Action<ScriptedStream, ProcessMessage, byte[]> answer) : AgentConnection
{
    public List<ScriptedStream> Streams { get; } = [];

    /// <summary>Whether the guest receives nothing.</summary>
    public bool IsStuck { get; set; }

    /// <summary>Why no stream can be opened.</summary>
    public string? Refusal { get; set; }

    /// <summary>The last stream.</summary>
    public ScriptedStream Last => Streams[^1];

    public override Task WaitAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override Task<AgentStream> OpenAsync(ReadOnlyMemory<byte> request, CancellationToken cancellationToken)
    {
        if (Refusal is not null)
        {
            throw new IOException(Refusal);
        }

        var stream = new ScriptedStream(answer, IsStuck);
        lock (Streams)
        {
            Streams.Add(stream);
        }

        stream.Take(request.Span);
        return Task.FromResult<AgentStream>(stream);
    }

    public override Task QuiesceAsync(CancellationToken cancellationToken) => Task.CompletedTask;

    public override ValueTask DisposeAsync() => ValueTask.CompletedTask;
}

/// <summary>The server's end of a stream whose other end is a script. It refuses what no stream takes.</summary>
internal sealed class ScriptedStream(Action<ScriptedStream, ProcessMessage, byte[]> answer, bool isStuck) : AgentStream
{
    private readonly Lock _lock = new();
    private readonly Queue<byte[]> _toServer = new();
    private readonly MessageParser _parser = new(ProcessMessages.MaxRequest);
    private TaskCompletionSource _changed = NewSignal();
    private string? _failure;
    private bool _isEnded;
    private int _readers, _writers;

    /// <summary>Kinds of the messages that came.</summary>
    public List<ProcessMessage> Received { get; } = [];

    public bool IsClosed { get; private set; }

    public bool MustForget { get; private set; }

    /// <summary>When set, reads give this message without end.</summary>
    public byte[]? Flood { get; set; }

    /// <summary>Bytes that the server has read.</summary>
    public long BytesRead { get; private set; }

    /// <summary>Bytes that a write takes before it waits for ever.</summary>
    public int Room { get; set; } = int.MaxValue;

    public override bool IsSent => !isStuck;

    public void Take(ReadOnlySpan<byte> bytes)
    {
        if (isStuck)
        {
            return;
        }

        while (!bytes.IsEmpty)
        {
            var room = _parser.Room.Span;
            var count = Math.Min(room.Length, bytes.Length);
            bytes[..count].CopyTo(room);
            bytes = bytes[count..];
            _parser.Received(count);
            while (_parser.TryRead(out var kind, out var body))
            {
                Received.Add(kind);
                answer(this, kind, body.ToArray());
            }
        }
    }

    public void Send(ProcessMessage kind, params byte[] body) => SendRaw(ProcessMessages.Encode(kind, body));

    public void SendRaw(byte[] bytes)
    {
        lock (_lock)
        {
            _toServer.Enqueue(bytes);
            Change();
        }
    }

    public void Started() => Send(ProcessMessage.Started, new StartedReport(7, default).Encode());

    public void Output(long offset, byte output, params byte[] bytes) =>
        Send(ProcessMessage.Output, [.. BitConverter.GetBytes(offset), output, .. bytes]);

    public void Ended(int exitCode, long offset, bool hasReachedLimit = false) =>
        Send(ProcessMessage.Ended, new EndReport(exitCode, hasReachedLimit, false, 0, offset).Encode());

    public void Taken(long count) => Send(ProcessMessage.Taken, BitConverter.GetBytes(count));

    /// <summary>The stream ends.</summary>
    public void End()
    {
        lock (_lock)
        {
            _isEnded = true;
            Change();
        }
    }

    /// <summary>The stream breaks.</summary>
    public void Fail(string reason)
    {
        lock (_lock)
        {
            _failure = reason;
            Change();
        }
    }

    public override bool TryWithdraw()
    {
        if (isStuck)
        {
            Fail("the server has withdrawn it");
        }

        return isStuck;
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> bytes, CancellationToken cancellationToken)
    {
        Assert.Equal(1, Interlocked.Increment(ref _readers));
        Assert.False(bytes.IsEmpty || IsClosed);
        try
        {
            while (true)
            {
                Task changed;
                lock (_lock)
                {
                    if (Flood is not null && _toServer.Count == 0)
                    {
                        _toServer.Enqueue(Flood);
                    }

                    if (_toServer.TryDequeue(out var next))
                    {
                        var count = Math.Min(next.Length, bytes.Length);
                        next.AsSpan(0, count).CopyTo(bytes.Span);
                        BytesRead += count;
                        if (count < next.Length)
                        {
                            var rest = _toServer.ToArray();
                            _toServer.Clear();
                            _toServer.Enqueue(next[count..]);
                            Array.ForEach(rest, _toServer.Enqueue);
                        }

                        return count;
                    }

                    if (_failure is not null)
                    {
                        throw new IOException(_failure);
                    }

                    if (_isEnded)
                    {
                        return 0;
                    }

                    changed = _changed.Task;
                }

                await changed.WaitAsync(cancellationToken);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _readers);
        }
    }

    public override async ValueTask WriteAsync(ReadOnlyMemory<byte> bytes, CancellationToken cancellationToken)
    {
        Assert.Equal(1, Interlocked.Increment(ref _writers));
        Assert.False(bytes.IsEmpty || IsClosed);
        try
        {
            if (_failure is not null)
            {
                throw new IOException(_failure);
            }

            var count = Math.Min(Room, bytes.Length);
            Room -= count;
            Take(bytes.Span[..count]);
            if (count < bytes.Length)
            {
                await Task.Delay(Timeout.InfiniteTimeSpan, TimeProvider.System, cancellationToken);
            }
        }
        finally
        {
            Interlocked.Decrement(ref _writers);
        }
    }

    public override void Close(bool mustForget) => (IsClosed, MustForget) = (true, mustForget);

    private static TaskCompletionSource NewSignal() => new(TaskCreationOptions.RunContinuationsAsynchronously);

    private void Change() => Interlocked.Exchange(ref _changed, NewSignal()).TrySetResult();
}
