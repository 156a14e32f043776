namespace Pandora.Agent.Protocol.Channel;

/// <summary>
/// Finds frames in a sequence of bytes, wherever it was cut. What is no frame is skipped byte by byte. The buffer has a fixed size.
/// </summary>
/// <remarks>
/// After a cut inside a frame the reader waits for the frame's rest, so a new connection begins with <see cref="Padding"/>: these bytes
/// complete any frame, and none begins in them.
/// </remarks>
internal sealed class FrameReader
{
    private readonly byte[] _buffer = new byte[2 * ChannelFrame.MaxSize];
    private int _begin, _end;

    /// <summary>Bytes with which the host begins a connection.</summary>
    public static ReadOnlyMemory<byte> Padding { get; } = new byte[ChannelFrame.MaxSize];

    /// <summary>Number of bytes that were part of no frame.</summary>
    public long Skipped { get; private set; }

    /// <summary>Room for bytes to be received: at least one byte, once <see cref="TryRead"/> has returned false.</summary>
    public Memory<byte> Room
    {
        get
        {
            if (_begin > 0)
            {
                _buffer.AsSpan(_begin, _end - _begin).CopyTo(_buffer);
                (_begin, _end) = (0, _end - _begin);
            }

            return _buffer.AsMemory(_end);
        }
    }

    /// <summary>Records that bytes were received into <see cref="Room"/>.</summary>
    public void Received(int count) => _end += count;

    /// <summary>Returns the next frame. Its body is valid until <see cref="Room"/> is asked for.</summary>
    /// <returns>False when more bytes must come.</returns>
    public bool TryRead(out ChannelFrame frame)
    {
        while (true)
        {
            var size = ChannelFrame.Read(_buffer.AsMemory(_begin, _end - _begin), out frame);
            if (size > 0)
            {
                _begin += size;
                return true;
            }

            if (size == 0)
            {
                return false;
            }

            var next = _buffer.AsSpan(_begin + 1, _end - _begin - 1).IndexOf(ChannelFrame.Magic[0]);
            var skipped = next < 0 ? _end - _begin : next + 1;
            _begin += skipped;
            Skipped += skipped;
        }
    }
}
