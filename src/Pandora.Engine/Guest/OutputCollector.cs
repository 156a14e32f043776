using System.Globalization;
using System.Text;

namespace Pandora.Engine.Guest;

/// <summary>What a marker in an output told.</summary>
/// <param name="Count">How many markers there are in both outputs together.</param>
/// <param name="Word">An exit code, or what could not be done.</param>
internal sealed record Marker(int Count, string Word);

/// <summary>Gathers one output of a command: keeps its first bytes up to a limit, counts the rest, and looks for the marker that ends it. Used by one thread at a time.</summary>
internal sealed class OutputCollector(int limit, string mark)
{
    private const int MaxMarkerWord = 24;
    private readonly byte[] _prefix = Encoding.ASCII.GetBytes($"\0{mark} ");
    private List<byte[]> _kept = [];
    private int _keptLength;
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

    /// <summary>What was kept, as UTF-8. A character that the limit cut is left out; bytes that are not UTF-8 become U+FFFD.</summary>
    public string ToText()
    {
        lock (_lock)
        {
            // Twice over the pieces, so that the text is made once and in its own size.
            return string.Create(Decode([]), this, static (text, collector) => collector.Decode(text));
        }
    }

    /// <summary>Lets go of what was kept, because it has been delivered.</summary>
    public void Release()
    {
        lock (_lock)
        {
            _kept = [];
            _keptLength = 0;
            _isEnded = true;
        }
    }

    // Writes the text where there is room for it, and counts it where there is none.
    private int Decode(Span<char> target)
    {
        var decoder = Encoding.UTF8.GetDecoder();
        var length = 0;
        for (var i = 0; i < _kept.Count; i++)
        {
            // Not flushed, a decoder keeps the beginning of a character to itself: the one that the limit cut.
            var flush = i == _kept.Count - 1 && !IsTruncated;
            length += target.IsEmpty ? CountAndAdvance(decoder, _kept[i], flush) : decoder.GetChars(_kept[i], target[length..], flush);
        }

        return length;
    }

    private static int CountAndAdvance(Decoder decoder, byte[] piece, bool flush)
    {
        Span<char> scratch = stackalloc char[1024];
        ReadOnlySpan<byte> rest = piece;
        var length = 0;
        while (true)
        {
            decoder.Convert(rest, scratch, flush, out var used, out var count, out var isComplete);
            length += count;
            rest = rest[used..];
            if (isComplete)
            {
                return length;
            }
        }
    }

    private void Keep(ReadOnlySpan<byte> data)
    {
        if (_isEnded)
        {
            return;
        }

        var room = limit - _keptLength;
        IsTruncated |= data.Length > room;
        if (room > 0 && data.Length > 0)
        {
            _kept.Add(data[..Math.Min(room, data.Length)].ToArray());
            _keptLength += _kept[^1].Length;
        }
    }
}
