namespace Pandora.Agent.Protocol.Channel;

/// <summary>Bytes in order, with an absolute offset, in a ring that grows to a limit.</summary>
internal sealed class ByteQueue(int limit)
{
    private byte[] _ring = [];
    private int _first;

    /// <summary>Offset of the first byte that is kept.</summary>
    public ulong Begin { get; private set; }

    /// <summary>Offset after the last byte.</summary>
    public ulong End => Begin + (ulong)Count;

    /// <summary>Number of bytes that are kept.</summary>
    public int Count { get; private set; }

    /// <summary>Bytes of memory that the ring has.</summary>
    public int Capacity => _ring.Length;

    /// <summary>Number of bytes that can be added.</summary>
    public int Free => limit - Count;

    /// <summary>Adds as many bytes as there is room for.</summary>
    /// <returns>How many were added.</returns>
    public int Add(ReadOnlySpan<byte> bytes)
    {
        var count = Math.Min(bytes.Length, Free);
        if (count == 0)
        {
            return 0;
        }

        if (Count + count > _ring.Length)
        {
            Grow(Count + count);
        }

        var at = Index(Count);
        var first = Math.Min(count, _ring.Length - at);
        bytes[..first].CopyTo(_ring.AsSpan(at));
        bytes[first..count].CopyTo(_ring);
        Count += count;
        return count;
    }

    /// <summary>Copies bytes from an offset on, without removing them.</summary>
    /// <returns>How many were copied.</returns>
    public int Peek(ulong offset, Span<byte> bytes)
    {
        var skip = checked((int)(offset - Begin));
        var count = Math.Min(bytes.Length, Count - skip);
        if (count <= 0)
        {
            return 0;
        }

        var at = Index(skip);
        var first = Math.Min(count, _ring.Length - at);
        _ring.AsSpan(at, first).CopyTo(bytes);
        _ring.AsSpan(0, count - first).CopyTo(bytes[first..]);
        return count;
    }

    /// <summary>Removes the bytes before an offset.</summary>
    public void RemoveTo(ulong offset)
    {
        var count = checked((int)(offset - Begin));
        ArgumentOutOfRangeException.ThrowIfGreaterThan(count, Count);
        _first = _ring.Length == 0 ? 0 : Index(count);
        (Begin, Count) = (offset, Count - count);
        if (Count == 0)
        {
            // An idle stream keeps no memory.
            (_ring, _first) = ([], 0);
        }
    }

    private int Index(int skip) => (_first + skip) % _ring.Length;

    private void Grow(int needed)
    {
        var ring = new byte[Math.Min(limit, Math.Max(needed, Math.Max(1024, 2 * _ring.Length)))];
        Peek(Begin, ring.AsSpan(0, Count));
        (_ring, _first) = (ring, 0);
    }
}
