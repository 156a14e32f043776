using Pandora.Agent.Protocol.Channel;

namespace Pandora.Tests.Channel;

/// <summary>What both users of a stream write and read: the byte at each offset is known.</summary>
internal sealed class ChannelTalk(ChannelStream host, int toAgent, int toHost)
{
    private readonly Way _there = new(toAgent), _back = new(toHost);
    private ChannelStream? _agent;

    public uint Id => host.Id;

    public string Problem => host.ResetReason ?? _agent?.ResetReason ?? _there.Problem ?? _back.Problem ?? "";

    public bool IsDone => _there.IsRead && _back.IsRead;

    public bool Accept(ChannelStream stream)
    {
        var isFirst = _agent is null;
        _agent = stream;
        return isFirst;
    }

    public bool Step(Random random)
    {
        _there.Write(host, random);
        _back.Read(host, random);
        if (_agent is not null)
        {
            _there.Read(_agent, random);
            _back.Write(_agent, random);
        }

        return Problem.Length == 0;
    }

    private sealed class Way(int length)
    {
        private int _written, _read;
        private bool _isWritten;

        public string? Problem { get; private set; }

        public bool IsRead { get; private set; }

        public void Write(ChannelStream stream, Random random)
        {
            var bytes = new byte[random.Next(300)];
            var count = Math.Min(bytes.Length, length - _written);
            for (var i = 0; i < count; i++)
            {
                bytes[i] = At(_written + i);
            }

            _written += stream.Write(bytes.AsSpan(0, count));
            if (_written == length && !_isWritten)
            {
                stream.End();
                _isWritten = true;
            }
        }

        public void Read(ChannelStream stream, Random random)
        {
            var bytes = new byte[random.Next(300)];
            var count = stream.Read(bytes);
            for (var i = 0; i < count; i++)
            {
                if (bytes[i] != At(_read + i))
                {
                    Problem = $"another byte at {_read + i}";
                }
            }

            _read += count;
            IsRead |= stream.IsAtEnd;
            if (IsRead && _read != length)
            {
                Problem = $"an end after {_read} of {length} bytes";
            }
        }

        private static byte At(int offset) => (byte)((offset * 31) ^ (offset >> 8));
    }
}
