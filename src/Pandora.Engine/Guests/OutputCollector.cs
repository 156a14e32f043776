using System.Globalization;
using System.Text;

namespace Pandora.Engine.Guests;

/// <summary>What a marker in an output told.</summary>
/// <param name="Count">How many markers there are in both outputs together.</param>
/// <param name="Word">An exit code, or what could not be done.</param>
internal sealed record Marker(int Count, string Word);

/// <summary>
/// Gathers one output of a command: keeps its first bytes up to a limit, counts the rest, and looks for the marker that ends it. Used by
/// one thread at a time.
/// </summary>
internal sealed class OutputCollector(int limit, string mark)
{
    // Under the size from which on the runtime puts objects into a heap of their own, which it seldom cleans.
    private const int MaxMarkerWord = 24, MinBlock = 64, MaxBlock = 64 * 1024;
    private readonly byte[] _prefix = Encoding.ASCII.GetBytes($"\0{mark} ");
    private List<byte[]> _kept = [];
    private int _keptLength, _lastLength;
    private readonly Lock _lock = new();
    private byte[] _held = [];
    private bool _isEnded;

    /// <summary>Whether more came than was kept.</summary>
    public bool IsTruncated { get; private set; }

    /// <summary>Takes what came; returns a marker when it is complete. What comes after a marker is nobody's.</summary>
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
                    // The beginning of a marker may stand at the end: hold it back until the rest has come.
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
                    // No marker is that long: somebody wrote our prefix, and it ends here all the same.
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

    /// <summary>What was kept until now.</summary>
    public GuestOutput Take()
    {
        lock (_lock)
        {
            // What comes later is written behind the pieces' ends, or to pieces of its own.
            int LengthOf(int block) => block < _kept.Count - 1 ? _kept[block].Length : _lastLength;
            return new GuestOutput([.. _kept.Select((bytes, i) => new ReadOnlyMemory<byte>(bytes, 0, LengthOf(i)))], IsTruncated);
        }
    }

    /// <summary>Lets go of what was kept, because it has been delivered, and keeps no more.</summary>
    public void Release()
    {
        lock (_lock)
        {
            _kept = [];
            _keptLength = 0;
            _isEnded = true;
        }
    }

    // Blocks grow from a few bytes to their full size: most outputs are short, and a byte that comes alone must not cost an object.
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
