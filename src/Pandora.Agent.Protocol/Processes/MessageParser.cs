using System.Buffers.Binary;

namespace Pandora.Agent.Protocol.Processes;

/// <summary>Finds messages in the bytes of a stream. Its buffer grows to the message that comes, and no further than the limit.</summary>
/// <param name="maxBody">Most bytes of a body.</param>
internal sealed class MessageParser(int maxBody)
{
    private const int FirstSize = 4096;
    private byte[] _buffer = [];
    private int _begin, _end;

    /// <summary>Room for bytes to be received.</summary>
    public Memory<byte> Room
    {
        get
        {
            var needed = Math.Max(ProcessMessages.HeaderSize + BodyLength(), _end - _begin + 1);
            if (_begin > 0 || _buffer.Length < needed)
            {
                var target = _buffer.Length < needed ? new byte[Math.Max(needed, FirstSize)] : _buffer;
                _buffer.AsSpan(_begin, _end - _begin).CopyTo(target);
                (_buffer, _begin, _end) = (target, 0, _end - _begin);
            }

            return _buffer.AsMemory(_end);
        }
    }

    /// <summary>Records that bytes were received into <see cref="Room"/>.</summary>
    public void Received(int count) => _end += count;

    /// <summary>Returns the next message. Its body is valid until <see cref="Room"/> is asked for.</summary>
    /// <returns>False when more bytes must come.</returns>
    /// <exception cref="FormatException">The other end sends no messages, or too long ones.</exception>
    public bool TryRead(out ProcessMessage kind, out ReadOnlyMemory<byte> body)
    {
        (kind, body) = (default, default);
        if (_end - _begin < ProcessMessages.HeaderSize)
        {
            return false;
        }

        var length = BodyLength();
        if (length < 0 || length > maxBody)
        {
            throw new FormatException($"a message of {length} bytes, of at most {maxBody}");
        }

        if (_end - _begin < ProcessMessages.HeaderSize + length)
        {
            return false;
        }

        kind = (ProcessMessage)_buffer[_begin + 4];
        body = _buffer.AsMemory(_begin + ProcessMessages.HeaderSize, length);
        _begin += ProcessMessages.HeaderSize + length;
        return true;
    }

    /// <summary>Gives the memory back when a large message has been used.</summary>
    public void Shrink()
    {
        if (_begin == _end && _buffer.Length > FirstSize)
        {
            (_buffer, _begin, _end) = ([], 0, 0);
        }
    }

    // The length that the header says, when the header is complete.
    private int BodyLength() => _end - _begin < ProcessMessages.HeaderSize
        ? 0
        : Math.Clamp(BinaryPrimitives.ReadInt32LittleEndian(_buffer.AsSpan(_begin)), -1, maxBody + 1);
}
