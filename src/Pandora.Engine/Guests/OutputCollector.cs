using System.Globalization;
using System.Text;

namespace Pandora.Engine.Guests;

/// <summary>The content of a marker in an output.</summary>
/// <param name="Count">How many markers both outputs together have.</param>
/// <param name="Word">An exit code, or the name of the setting that is invalid.</param>
internal sealed record Marker(int Count, string Word);

/// <summary>
/// Collects one output of a command: keeps its first bytes up to a limit, drops the rest, and finds the marker that ends it. One thread at
/// a time may append.
/// </summary>
internal sealed class OutputCollector(int limit, string mark)
{
    // Below the size of .NET's large objects, whose heap the runtime seldom collects.
    private const int MaxMarkerWord = 24, MinBlock = 64, MaxBlock = 64 * 1024;
    private readonly byte[] _prefix = Encoding.ASCII.GetBytes($"\0{mark} ");
    private List<byte[]> _kept = [];
    private int _keptLength, _lastLength;
    private readonly Lock _lock = new();
    private byte[] _held = [];
    private bool _isEnded;

    /// <summary>Whether the command printed more than was kept.</summary>
    public bool IsTruncated { get; private set; }

    /// <summary>Takes the next bytes, and returns the markers that they complete. Bytes after a marker are dropped.</summary>
    public IReadOnlyList<Marker> Append(ReadOnlySpan<byte> chunk)
    {
        lock (_lock)
        {
            var markers = new List<Marker>();
            ReadOnlySpan<byte> data = _held.Length == 0 ? chunk : [.. _held, .. chunk];
            _held = [];
            while (true)
            {
                var start = data.IndexOf(_prefix);
                if (start < 0)
                {
                    // The bytes may end with the beginning of a marker: hold that back until the rest has come.
                    var tail = data[Math.Max(0, data.Length - _prefix.Length)..];
                    var zero = tail.IndexOf((byte)0);
                    while (zero >= 0 && !_prefix.AsSpan().StartsWith(tail[zero..]))
                    {
                        var next = tail[(zero + 1)..].IndexOf((byte)0);
                        zero = next < 0 ? -1 : zero + 1 + next;
                    }

                    var held = zero < 0 ? 0 : tail.Length - zero;
                    Keep(data[..^held]);
                    _held = data[^held..].ToArray();
                    return markers;
                }

                Keep(data[..start]);
                var rest = data[(start + _prefix.Length)..];
                var end = rest.IndexOf((byte)0);
                if (end < 0)
                {
                    // No marker is that long: the guest's code wrote the prefix. What follows it is dropped.
                    _held = rest.Length > MaxMarkerWord ? [] : data[start..].ToArray();
                    return markers;
                }

                var words = Encoding.ASCII.GetString(rest[..end]).Split(' ', 2);
                if (words.Length == 2 && int.TryParse(words[0], NumberStyles.None, CultureInfo.InvariantCulture, out var count))
                {
                    markers.Add(new Marker(count, words[1]));
                    _isEnded = true;
                }

                data = rest[(end + 1)..];
            }
        }
    }

    /// <summary>Returns what was kept until now.</summary>
    public GuestOutput Take()
    {
        lock (_lock)
        {
            // Later bytes are written after the ends of these pieces, or into new blocks.
            int LengthOf(int block) => block < _kept.Count - 1 ? _kept[block].Length : _lastLength;
            return new GuestOutput([.. _kept.Select((bytes, i) => new ReadOnlyMemory<byte>(bytes, 0, LengthOf(i)))], IsTruncated);
        }
    }

    /// <summary>Drops what was kept, because it has been delivered, and keeps nothing more.</summary>
    public void Release()
    {
        lock (_lock)
        {
            _kept = [];
            _keptLength = 0;
            _isEnded = true;
        }
    }

    // Blocks grow from a few bytes to their full size: most outputs are short, and a single byte must not cost an object.
    private void Keep(ReadOnlySpan<byte> data)
    {
        if (_isEnded)
        {
            return;
        }

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
