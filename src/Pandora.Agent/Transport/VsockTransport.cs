using System.Security.Cryptography;
using Pandora.Agent.Protocol;
using Pandora.Agent.Protocol.Channel;

namespace Pandora.Agent.Transport;

/// <summary>
/// A vsock connection for each stream. Only the host may connect, and each connection begins with the guest's secret: a program in the
/// guest that found a way to connect does not know it.
/// </summary>
internal sealed class VsockTransport
{
    private const int MostConnections = 1024;
    private const int ChunkSize = 64 * 1024;
    private const long SecretLimit = 5000;
    private readonly EventLoop _loop;
    private readonly int _listener;
    private readonly Action<AgentStream> _opened;
    private readonly HashSet<Stream> _streams = [];
    private readonly byte[] _chunk = new byte[ChunkSize];

    /// <param name="loop">Tells when connections are ready.</param>
    /// <param name="opened">Receives each stream whose secret was right.</param>
    /// <exception cref="IOException">The guest has no vsock.</exception>
    public VsockTransport(EventLoop loop, Action<AgentStream> opened)
    {
        (_loop, _opened) = (loop, opened);
        _listener = Linux.ListenVsock(AgentProtocol.StreamVsockPort, isWaiting: false);
        loop.Add(_listener, Linux.EpollIn, _ => Accept());
    }

    /// <summary>Sends what is to be sent, as far as the connections take it.</summary>
    public void Flush()
    {
        foreach (var stream in _streams.Where(s => s.HasWork).ToList())
        {
            stream.Flush();
        }
    }

    private void Accept()
    {
        while (Linux.AcceptFromHost(_listener) is { } connection)
        {
            if (_streams.Count >= MostConnections)
            {
                Linux.Close(connection);
                continue;
            }

            var stream = new Stream(this, connection);
            _streams.Add(stream);
            _loop.Add(connection, Linux.EpollIn | Linux.EpollOut | Linux.EpollReadHangUp | Linux.EpollEdge, stream.OnReady);
            _loop.After(SecretLimit, () =>
            {
                if (!stream.IsTrusted)
                {
                    stream.Close();
                }
            });
        }
    }

    private sealed class Stream(VsockTransport transport, int connection) : AgentStream
    {
        private readonly ByteQueue _out = new(256 * 1024);
        private readonly byte[] _secret = new byte[AgentProtocol.SecretSize];
        private int _secretRead;
        private bool _canRead = true, _canWrite = true, _mustEnd, _isClosed, _wasFull, _hasServerLeft;

        public bool IsTrusted { get; private set; }

        public bool HasWork => !_isClosed && _canWrite && (_out.Count > 0 || _mustEnd);

        public override bool IsClosed => _isClosed;

        public override bool HasServerLeft => _isClosed || _hasServerLeft;

        public override int Free => _isClosed || _mustEnd ? 0 : _out.Free;

        public override int Read(Span<byte> bytes)
        {
            if (!_canRead || _isClosed)
            {
                return 0;
            }

            var count = Linux.Read(connection, bytes);
            if (count <= 0)
            {
                _canRead = false;
                if (count == 0 || Linux.LastError != Linux.TryAgain)
                {
                    Close();
                }
            }

            return Math.Max(count, 0);
        }

        public override void Write(ReadOnlySpan<byte> bytes)
        {
            _out.Add(bytes);
            _wasFull |= _out.Free < 32 * 1024;
        }

        public override void End() => _mustEnd = true;

        public void OnReady(uint events)
        {
            _canRead |= (events & ~Linux.EpollOut) != 0;
            _canWrite |= (events & Linux.EpollOut) != 0;
            _hasServerLeft |= (events & (Linux.EpollReadHangUp | Linux.EpollHangUp | Linux.EpollError)) != 0;
            if (!IsTrusted && !TryTrust())
            {
                return;
            }

            Flush();
            Changed?.Invoke();
        }

        public void Flush()
        {
            while (HasWork)
            {
                if (_out.Count == 0)
                {
                    Close();
                    return;
                }

                var count = Linux.WriteSome(connection, transport._chunk.AsSpan(0, _out.Peek(_out.Begin, transport._chunk)));
                if (count <= 0)
                {
                    _canWrite = false;
                    return;
                }

                _out.RemoveTo(_out.Begin + (ulong)count);
            }

            if (_wasFull && _canWrite)
            {
                _wasFull = false;
                Changed?.Invoke();
                if (HasWork)
                {
                    // What was written just now goes in the next round, for which no event need come.
                    transport._loop.Post(() => { });
                }
            }
        }

        private bool TryTrust()
        {
            while (_secretRead < _secret.Length)
            {
                var count = Read(_secret.AsSpan(_secretRead));
                if (count == 0)
                {
                    return false;
                }

                _secretRead += count;
            }

            if (!CryptographicOperations.FixedTimeEquals(_secret, GuestSecret.Current))
            {
                Close();
                return false;
            }

            IsTrusted = true;
            transport._opened(this);
            return true;
        }

        public void Close()
        {
            if (!_isClosed)
            {
                _isClosed = true;
                transport._streams.Remove(this);
                transport._loop.Remove(connection);
                Linux.Close(connection);
                Changed?.Invoke();
            }
        }
    }
}
