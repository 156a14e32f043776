namespace Pandora.HostTests;

/// <summary>Bytes that differ from place to place and take no memory: those at an offset are always the same.</summary>
/// <param name="length">Number of bytes.</param>
internal sealed class PatternStream(long length) : Stream
{
    private long _position;

    /// <summary>Called with the number of bytes read so far, before each read.</summary>
    public Func<long, Task>? BeforeRead { get; init; }

    public override bool CanRead => true;

    public override bool CanSeek => false;

    public override bool CanWrite => false;

    public override long Length => length;

    public override long Position
    {
        get => _position;
        set => throw new NotSupportedException();
    }

    /// <summary>Writes the bytes at an offset.</summary>
    public static void Fill(Span<byte> bytes, long offset)
    {
        for (var i = 0; i < bytes.Length; i++)
        {
            var at = (ulong)(offset + i);
            // Each block of 251 bytes differs from its neighbours, and no block repeats soon.
            bytes[i] = (byte)((at % 251) ^ (((at / 251) * 0x9E3779B97F4A7C15) >> 56));
        }
    }

    public override int Read(byte[] buffer, int offset, int count) => Read(buffer.AsSpan(offset, count));

    public override int Read(Span<byte> buffer)
    {
        var count = (int)Math.Min(buffer.Length, length - _position);
        Fill(buffer[..count], _position);
        _position += count;
        return count;
    }

    public override async ValueTask<int> ReadAsync(Memory<byte> buffer, CancellationToken cancellationToken = default)
    {
        if (BeforeRead is not null)
        {
            await BeforeRead(_position);
        }

        return Read(buffer.Span);
    }

    public override void Flush()
    {
        // Nothing is written.
    }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
}
