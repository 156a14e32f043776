namespace Pandora.Engine.Guests;

/// <summary>Collects one output of a command: keeps its first bytes up to a limit, and drops the rest.</summary>
internal sealed class OutputCollector(int limit)
{
    // Below the size of .NET's large objects, whose heap the runtime seldom collects.
    private const int MinBlock = 64, MaxBlock = 64 * 1024;
    private readonly List<byte[]> _kept = [];
    private int _keptLength, _lastLength;

    /// <summary>Whether the command printed more than was kept.</summary>
    public bool IsTruncated { get; set; }

    /// <summary>Returns what was kept.</summary>
    public GuestOutput Take()
    {
        int LengthOf(int block) => block < _kept.Count - 1 ? _kept[block].Length : _lastLength;
        return new GuestOutput([.. _kept.Select((bytes, i) => new ReadOnlyMemory<byte>(bytes, 0, LengthOf(i)))], IsTruncated);
    }

    /// <summary>Takes the next bytes.</summary>
    public void Append(ReadOnlySpan<byte> data)
    {
        // Blocks grow from a few bytes to their full size: most outputs are short, and a single byte must not cost an object.
        var room = limit - _keptLength;
        IsTruncated |= data.Length > room;
        var rest = data[..Math.Min(room, data.Length)];
        _keptLength += rest.Length;
        while (!rest.IsEmpty)
        {
            if (_kept.Count == 0 || _lastLength == MaxBlock)
            {
                _kept.Add(new byte[Math.Min(Math.Max(rest.Length, MinBlock), MaxBlock)]);
                _lastLength = 0;
            }
            else if (_lastLength == _kept[^1].Length)
            {
                var grown = new byte[Math.Min(Math.Max(_lastLength + rest.Length, _lastLength * 2), MaxBlock)];
                _kept[^1].CopyTo(grown, 0);
                _kept[^1] = grown;
            }

            var count = Math.Min(rest.Length, _kept[^1].Length - _lastLength);
            rest[..count].CopyTo(_kept[^1].AsSpan(_lastLength));
            _lastLength += count;
            rest = rest[count..];
        }
    }
}
