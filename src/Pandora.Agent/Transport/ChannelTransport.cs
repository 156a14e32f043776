using Pandora.Agent.Protocol.Channel;

namespace Pandora.Agent.Transport;

/// <summary>Many streams over one descriptor: the virtio-serial port, or the standard input and output of an SSH session.</summary>
internal sealed class ChannelTransport
{
    private readonly ChannelEnd _end = new(isHost: false);
    private readonly FrameReader _reader = new();
    private readonly byte[] _out = new byte[2 * ChannelFrame.MaxSize];
    private readonly Dictionary<uint, Stream> _streams = [];
    private readonly int _input, _output;
    private readonly Action<AgentStream> _opened;
    private readonly Action? _ended;
    private int _outBegin, _outEnd;
    private bool _canWrite = true;

    /// <param name="loop">Tells when the descriptors are ready.</param>
    /// <param name="input">Descriptor to read, which does not wait.</param>
    /// <param name="output">Descriptor to write, which does not wait; it may be the same.</param>
    /// <param name="opened">Receives each stream that the server opens.</param>
    /// <param name="ended">Called at the end of the input; null when it has no end, as the port.</param>
    public ChannelTransport(EventLoop loop, int input, int output, Action<AgentStream> opened, Action? ended)
    {
        (_input, _output, _opened, _ended) = (input, output, opened, ended);
        // By edges: while no server is connected to the port, it is always ready, and has nothing.
        if (input == output)
        {
            loop.Add(input, Linux.EpollIn | Linux.EpollOut | Linux.EpollEdge, OnReady);
        }
        else
        {
            loop.Add(input, Linux.EpollIn | Linux.EpollEdge, _ => OnReady(Linux.EpollIn));
            loop.Add(output, Linux.EpollOut | Linux.EpollEdge, _ => OnReady(Linux.EpollOut));
        }

        _end.Announce();
    }

    /// <summary>Sends what is to be sent, as far as the descriptor takes it.</summary>
    public void Flush()
    {
        while (_canWrite)
        {
            Fill();
            if (_outBegin == _outEnd)
            {
                return;
            }

            var count = Linux.WriteSome(_output, _out.AsSpan(_outBegin, _outEnd - _outBegin));
            if (count <= 0)
            {
                _canWrite = false;
                return;
            }

            _outBegin += count;
        }
    }

    private void Fill()
    {
        if (_outBegin > 0)
        {
            _out.AsSpan(_outBegin, _outEnd - _outBegin).CopyTo(_out);
            (_outBegin, _outEnd) = (0, _outEnd - _outBegin);
        }

        while (_out.Length - _outEnd >= ChannelFrame.MaxSize && _end.TryNext(out var frame))
        {
            frame.Write(_out.AsSpan(_outEnd));
            _outEnd += frame.Size;
        }
    }

    private void OnReady(uint events)
    {
        _canWrite |= (events & (Linux.EpollOut | Linux.EpollHangUp | Linux.EpollError)) != 0;
        while (true)
        {
            var room = _reader.Room.Span;
            var count = Linux.Read(_input, room);
            if (count <= 0)
            {
                if (count == 0)
                {
                    _ended?.Invoke();
                }

                break;
            }

            _reader.Received(count);
            while (_reader.TryRead(out var frame))
            {
                _end.Receive(frame);
            }

            Dispatch();
            // Answers make room for what comes.
            Flush();
        }

        // The other end has taken bytes, so that streams have room.
        Dispatch();
    }

    private void Dispatch()
    {
        while (_end.Accept() is { } accepted)
        {
            var stream = new Stream(this, accepted);
            _streams[accepted.Id] = stream;
            _opened(stream);
        }

        while (_end.TakeChanged() is { } changed)
        {
            if (_streams.TryGetValue(changed.Id, out var stream) && stream.Inner == changed)
            {
                if (stream.IsClosed)
                {
                    _streams.Remove(changed.Id);
                }

                stream.Changed?.Invoke();
            }
        }
    }

    private sealed class Stream(ChannelTransport transport, ChannelStream inner) : AgentStream
    {
        private int _requestRead;

        public ChannelStream Inner => inner;

        public override bool IsClosed => inner.ResetReason is not null || (inner.IsAtEnd && _requestRead == inner.Request.Length);

        public override bool HasServerLeft => inner.ResetReason is not null || inner.HasEndReceived;

        public override string? CloseReason => inner.ResetReason;

        public override int Free => inner.Free;

        // The request is the beginning of the stream.
        public override int Read(Span<byte> bytes)
        {
            if (_requestRead < inner.Request.Length)
            {
                var count = Math.Min(bytes.Length, inner.Request.Length - _requestRead);
                inner.Request.AsSpan(_requestRead, count).CopyTo(bytes);
                _requestRead += count;
                return count;
            }

            return inner.Read(bytes);
        }

        public override void Write(ReadOnlySpan<byte> bytes) => inner.Write(bytes);

        public override void End()
        {
            inner.End();
            transport._streams.Remove(inner.Id);
        }
    }
}
