using Pandora.Agent.Protocol.Files;
using Pandora.Agent.Protocol.Processes;

namespace Pandora.Agent.Files;

/// <summary>
/// The way between the loop, which never waits, and the thread of a request, which does. Each way keeps at most
/// <see cref="Limit"/> bytes.
/// </summary>
/// <param name="wake">Called on the request's thread when the loop has something to do.</param>
internal sealed class RequestPipe(Action wake)
{
    /// <summary>Most bytes that are kept each way.</summary>
    public const int Limit = 192 * 1024;

    private readonly object _lock = new();
    private readonly Ring _toThread = new(), _toLoop = new();
    private bool _isInputWhole, _isCancelled, _isWoken;
    private int _cancelled = -1;

    /// <summary>Loop: number of bytes that <see cref="AddInput"/> takes.</summary>
    public int InputRoom
    {
        get
        {
            lock (_lock)
            {
                return _toThread.Free;
            }
        }
    }

    /// <summary>Loop: gives bytes to the thread, at most <see cref="InputRoom"/>.</summary>
    public void AddInput(ReadOnlySpan<byte> bytes)
    {
        lock (_lock)
        {
            _toThread.Add(bytes);
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Loop: no more input follows.</summary>
    public void EndInput()
    {
        lock (_lock)
        {
            _isInputWhole = true;
            Monitor.PulseAll(_lock);
        }
    }

    /// <summary>Loop: ends the work at its next step.</summary>
    public void Cancel()
    {
        lock (_lock)
        {
            _isCancelled = true;
            Monitor.PulseAll(_lock);
            if (_cancelled >= 0)
            {
                Linux.Signal(_cancelled);
            }
        }
    }

    /// <summary>Loop: takes bytes of messages.</summary>
    /// <returns>How many; 0 when none wait, and the thread wakes the loop when there are some.</returns>
    public int TakeOutput(Span<byte> bytes)
    {
        lock (_lock)
        {
            _isWoken = false;
            var count = _toLoop.Take(bytes);
            if (count > 0)
            {
                Monitor.PulseAll(_lock);
            }

            return count;
        }
    }

    /// <summary>Thread: takes bytes that the server sent, and waits for them.</summary>
    /// <returns>How many; 0 when all were taken.</returns>
    /// <exception cref="OperationCanceledException">The stream was closed.</exception>
    public int Read(Span<byte> bytes)
    {
        int count;
        bool mustWake;
        lock (_lock)
        {
            while (_toThread.Count == 0 && !_isInputWhole && !_isCancelled)
            {
                Monitor.Wait(_lock);
            }

            ThrowIfEnded();
            // The loop stops to read when there is no room for a whole message.
            var wasFull = _toThread.Free < FileMessages.MaxBody;
            count = _toThread.Take(bytes);
            mustWake = wasFull && _toThread.Free >= FileMessages.MaxBody;
        }

        if (mustWake)
        {
            wake();
        }

        return count;
    }

    /// <summary>Thread: sends a message, and waits until there is room for it.</summary>
    /// <exception cref="OperationCanceledException">The stream was closed.</exception>
    public void Write(FileMessage kind, ReadOnlySpan<byte> body) => WriteWhole(FileMessages.Encode(kind, body));

    /// <summary>Thread: sends a message, whose header is in the buffer's first bytes, as <see cref="Write"/> does.</summary>
    /// <param name="message">Room for the header, and the body.</param>
    /// <param name="kind">Its kind.</param>
    public void WriteBuffer(Span<byte> message, FileMessage kind)
    {
        ProcessMessages.WriteHeader(message, (ProcessMessage)kind, message.Length - ProcessMessages.HeaderSize);
        WriteWhole(message);
    }

    /// <summary>Thread: ends the work when the stream was closed.</summary>
    /// <exception cref="OperationCanceledException">The stream was closed.</exception>
    public void ThrowIfCancelled()
    {
        lock (_lock)
        {
            ThrowIfEnded();
        }
    }

    /// <summary>Thread: names a descriptor of an event (eventfd(2)) that is signalled when the stream is closed; -1 for none.</summary>
    public void SignalCancel(int descriptor)
    {
        lock (_lock)
        {
            _cancelled = descriptor;
            if (_isCancelled && descriptor >= 0)
            {
                Linux.Signal(descriptor);
            }
        }
    }

    private void WriteWhole(ReadOnlySpan<byte> message)
    {
        while (true)
        {
            bool mustWake;
            lock (_lock)
            {
                while (_toLoop.Free == 0 && !_isCancelled)
                {
                    Monitor.Wait(_lock);
                }

                ThrowIfEnded();
                message = message[_toLoop.Add(message)..];
                mustWake = !_isWoken;
                _isWoken = true;
            }

            if (mustWake)
            {
                wake();
            }

            if (message.IsEmpty)
            {
                return;
            }
        }
    }

    private void ThrowIfEnded()
    {
        if (_isCancelled)
        {
            throw new OperationCanceledException();
        }
    }

    private sealed class Ring
    {
        private byte[] _bytes = [];
        private int _first;

        public int Count { get; private set; }

        public int Free => Limit - Count;

        public int Add(ReadOnlySpan<byte> bytes)
        {
            if (bytes.IsEmpty)
            {
                return 0;
            }

            // Small answers need no large ring.
            if (Count + bytes.Length > _bytes.Length && _bytes.Length < Limit)
            {
                Grow(Count + bytes.Length);
            }

            var count = Math.Min(bytes.Length, _bytes.Length - Count);
            var at = (_first + Count) % _bytes.Length;
            var part = Math.Min(count, _bytes.Length - at);
            bytes[..part].CopyTo(_bytes.AsSpan(at));
            bytes[part..count].CopyTo(_bytes);
            Count += count;
            return count;
        }

        public int Take(Span<byte> bytes)
        {
            var count = Math.Min(bytes.Length, Count);
            if (count == 0)
            {
                return 0;
            }

            var part = Math.Min(count, _bytes.Length - _first);
            _bytes.AsSpan(_first, part).CopyTo(bytes);
            _bytes.AsSpan(0, count - part).CopyTo(bytes[part..]);
            _first = (_first + count) % _bytes.Length;
            Count -= count;
            return count;
        }

        private void Grow(int needed)
        {
            var grown = new byte[Math.Min(Limit, Math.Max(4096, Math.Max(needed, 2 * _bytes.Length)))];
            var count = Count;
            Take(grown);
            (_bytes, _first, Count) = (grown, 0, count);
        }
    }
}
