using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Unicode;

namespace Pandora.Mcp.Files;

/// <summary>
/// Reads what the guest's grep or find writes, piece by piece: for each match PATH NUL, and of grep then LINE ':' TEXT LF. It is data of
/// the guest: what is kept of a path, of a text and of all has a bound.
/// </summary>
/// <param name="hasText">Whether it is grep's.</param>
/// <param name="limit">Most matches.</param>
internal sealed class SearchOutput(bool hasText, int limit)
{
    // Minified files have lines of megabytes. A longer path cannot be opened by its name: limits.h, PATH_MAX.
    private const int MaxText = 300, MaxChars = 60_000, MaxPathBytes = 4096, MaxTextBytes = (4 * MaxText) + 32;
    private readonly List<FoundText> _found = [];
    private readonly List<byte> _path = [], _text = [];
    private bool _isInText, _isPathTooLong;
    private int _chars;

    /// <summary>The matches.</summary>
    public IReadOnlyList<FoundText> Found => _found;

    /// <summary>Whether there may be more matches: there was no room for them, or what came cannot be one.</summary>
    public bool HasMore { get; private set; }

    /// <summary>Takes a piece.</summary>
    /// <returns>Whether more is wanted.</returns>
    public bool Take(ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            var end = bytes.IndexOf(_isInText ? (byte)'\n' : (byte)0);
            var part = end < 0 ? bytes : bytes[..end];
            if (_isInText)
            {
                _text.AddRange(part[..Math.Min(part.Length, MaxTextBytes - _text.Count)]);
            }
            else
            {
                _isPathTooLong |= _path.Count + part.Length > MaxPathBytes;
                _path.AddRange(part[..Math.Min(part.Length, MaxPathBytes - _path.Count)]);
            }

            if (end < 0)
            {
                return true;
            }

            bytes = bytes[(end + 1)..];
            _isInText = hasText && !_isInText;
            if (!_isInText && !TakeMatch())
            {
                return false;
            }
        }

        return true;
    }

    private bool TakeMatch()
    {
        bool? notUtf8 = Utf8.IsValid(CollectionsMarshal.AsSpan(_path)) ? null : true;
        var match = MatchOf(TextOf(_path), TextOf(_text), notUtf8);
        if (_isPathTooLong || match is null)
        {
            (HasMore, _isPathTooLong) = (true, false);
            return true;
        }

        var chars = match.Path.Length + (match.Text?.Length ?? 0);
        if (_found.Count > 0 && _chars + chars > MaxChars)
        {
            HasMore = true;
            return false;
        }

        _found.Add(match);
        _chars += chars;
        HasMore |= _found.Count == limit;
        return _found.Count < limit;
    }

    private FoundText? MatchOf(string path, string line, bool? notUtf8)
    {
        if (!hasText)
        {
            return new FoundText(path, null, null, notUtf8);
        }

        var colon = line.IndexOf(':', StringComparison.Ordinal);
        if (colon <= 0 || !long.TryParse(line.AsSpan(0, colon), NumberStyles.None, CultureInfo.InvariantCulture, out var number))
        {
            return null;
        }

        var text = line[(colon + 1)..];
        return new FoundText(path, number, text.Length > MaxText ? $"{text[..MaxText]}…" : text, notUtf8);
    }

    private static string TextOf(List<byte> part)
    {
        var text = Encoding.UTF8.GetString(CollectionsMarshal.AsSpan(part));
        part.Clear();
        return text;
    }
}
