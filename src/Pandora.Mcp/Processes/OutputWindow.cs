using System.Buffers;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;

namespace Pandora.Mcp.Processes;

/// <summary>
/// Output as it comes, of which the head and the tail are kept when it has more characters than a model is to be shown. Its memory is
/// bounded.
/// </summary>
/// <param name="maxChars">Most characters (UTF-16) of <see cref="Text"/> without the note about the cut.</param>
/// <param name="start">Offset of the first byte that is wanted.</param>
internal sealed class OutputWindow(int maxChars, long start)
{
    // No character takes more than three bytes: those of four are two characters.
    private const int BytesPerChar = 3;
    private const int LineBytes = 400, LongestRune = 4;
    private readonly int _keptBytes = BytesPerChar * ((maxChars / 2) + 1);
    private readonly List<byte> _head = [], _tail = [];
    private long _headStart = start;
    private long _lostInside, _lostOfCut, _kept, _lost;
    private bool _isHeadFull;

    /// <summary>Offset after the last byte, where the next read begins.</summary>
    public long Next { get; private set; } = start;

    /// <summary>Bytes that are not shown and that the sandbox no longer has. Of a cut they are known after <see cref="Text"/>.</summary>
    public long Lost => _lost + _lostOfCut;

    /// <summary>What was cut and can be read; null for nothing. Known after <see cref="Text"/>.</summary>
    public Cut? Cut { get; private set; }

    /// <summary>Bytes that were not UTF-8. Known after <see cref="Text"/>.</summary>
    public int Invalid { get; private set; }

    /// <summary>Adds output.</summary>
    /// <param name="offset">Offset of its first byte.</param>
    /// <param name="bytes">The bytes.</param>
    public void Add(long offset, ReadOnlySpan<byte> bytes)
    {
        LoseTo(offset);
        Next = offset + bytes.Length;
        if (!_isHeadFull)
        {
            var taken = Math.Min(bytes.Length, _keptBytes - _head.Count);
            _head.AddRange(bytes[..taken]);
            bytes = bytes[taken..];
            _isHeadFull = _head.Count == _keptBytes;
        }

        _tail.AddRange(bytes);
        if (_tail.Count > 4 * _keptBytes)
        {
            _tail.RemoveRange(0, _tail.Count - _keptBytes);
        }
    }

    /// <summary>Takes note that the sandbox no longer has what comes before an offset.</summary>
    public void LoseTo(long offset)
    {
        if (offset <= Next)
        {
            return;
        }

        _lost += offset - Next;
        _lostInside += _head.Count == 0 ? 0 : offset - Next;
        // Each part has no gap, so that offsets in it can be counted.
        _isHeadFull |= _head.Count > 0;
        _headStart = _head.Count == 0 ? offset : _headStart;
        _tail.Clear();
        Next = offset;
    }

    /// <summary>Learns from which offset on the sandbox still has the output: what is cut before it cannot be read.</summary>
    public void KeptFrom(long offset) => _kept = offset;

    /// <summary>Whether there is a whole character.</summary>
    public bool HasText => _head.Count > CountOfCut();

    /// <summary>Leaves the beginning of a character, whose rest may come, to the next read.</summary>
    public void HoldBack()
    {
        var count = CountOfCut();
        Next -= count;
        var ofTail = Math.Min(count, _tail.Count);
        _tail.RemoveRange(_tail.Count - ofTail, ofTail);
        _head.RemoveRange(_head.Count - (count - ofTail), count - ofTail);
    }

    /// <summary>The text: all of it, or its head, a note, and its tail.</summary>
    public string Text()
    {
        var head = CollectionsMarshal.AsSpan(_head);
        var tail = CollectionsMarshal.AsSpan(_tail);
        if (IsWhole)
        {
            byte[] all = [.. head, .. tail];
            var whole = Decode(all, int.MaxValue, out _);
            if (whole.Length <= maxChars)
            {
                return whole;
            }

            head = tail = all;
        }

        Invalid = 0;
        var first = Decode(head, maxChars / 2, out var headBytes);
        var last = DecodeLast(tail, maxChars - (maxChars / 2), out var tailBytes);
        var (from, to) = (_headStart + headBytes, Next - tailBytes);
        // Output is lost from its beginning on, so that a gap is before what is kept.
        var lost = Math.Max(_lostInside, Math.Min(_kept, to) - from);
        var cursor = _kept > from ? Math.Min(_kept, to) : from;
        var cut = to - from - lost;
        _lostOfCut = lost - _lostInside;
        Cut = cut == 0 ? null : new Cut(cut, cursor, to);
        var gone = lost == 0 || (cut > 0 && cursor == from) ? "" : $"{lost} bytes are lost here";
        var read = cut == 0 ? "" : $"{cut} bytes are cut here: process_read reads them with cursor {cursor} and to_cursor {to}";
        return $"{first}\n[{gone}{(gone.Length > 0 && cut > 0 ? ", and " : "")}{read}]\n{last}";
    }

    /// <summary>
    /// The last line that has text, at most 200 characters; null for none. It has no control characters, and none that break or turn lines.
    /// </summary>
    public string? LastLine()
    {
        var bytes = _tail.Count > 0 ? Last(_tail, LineBytes) : Last(_head, LineBytes);
        bytes = bytes[..Math.Max(0, bytes.Length - CountOfCut())];
        var line = Encoding.UTF8.GetString(bytes).Split('\n', '\r').LastOrDefault(l => !string.IsNullOrWhiteSpace(l));
        if (line is null)
        {
            return null;
        }

        line = new string([.. line.Where(IsPlain)]).Trim();
        return line.Length > 200 ? line[..200] : line;
    }

    // Whether the tail follows the head.
    private bool IsWhole => _headStart + _head.Count == Next - _tail.Count;

    // Bytes at the end that are the beginning of a character.
    private int CountOfCut()
    {
        byte[] end = [.. IsWhole ? Last(_head, LongestRune) : [], .. Last(_tail, LongestRune)];
        return Rune.DecodeLastFromUtf8(end, out _, out var length) == OperationStatus.NeedMoreData ? length : 0;
    }

    private static bool IsPlain(char c) => char.GetUnicodeCategory(c) is not (
        UnicodeCategory.Control or UnicodeCategory.Format or UnicodeCategory.LineSeparator or UnicodeCategory.ParagraphSeparator);

    private static ReadOnlySpan<byte> Last(List<byte> part, int most) => CollectionsMarshal.AsSpan(part)[Math.Max(0, part.Count - most)..];

    private string Decode(ReadOnlySpan<byte> bytes, int most, out int taken)
    {
        var text = new StringBuilder(Math.Min(bytes.Length, most));
        taken = 0;
        while (taken < bytes.Length)
        {
            var status = Rune.DecodeFromUtf8(bytes[taken..], out var rune, out var length);
            if (text.Length + rune.Utf16SequenceLength > most)
            {
                break;
            }

            Invalid += status == OperationStatus.Done ? 0 : length;
            _ = text.Append(rune.ToString());
            taken += length;
        }

        return text.ToString();
    }

    private string DecodeLast(ReadOnlySpan<byte> bytes, int most, out int taken)
    {
        var (chars, begin) = (0, bytes.Length);
        while (begin > 0)
        {
            _ = Rune.DecodeLastFromUtf8(bytes[..begin], out var rune, out var length);
            if (chars + rune.Utf16SequenceLength > most)
            {
                break;
            }

            (chars, begin) = (chars + rune.Utf16SequenceLength, begin - length);
        }

        taken = bytes.Length - begin;
        return Decode(bytes[begin..], int.MaxValue, out _);
    }
}
